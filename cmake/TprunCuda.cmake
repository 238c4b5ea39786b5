# The CUDA module, libtprun_cuda.so: everything that needs CUDA, cuBLASLt or NCCL. The program loads
# it at run time (comm/cuda_module.h), so it is built beside the libraries and never linked to them.
#
#   tprun_cuda_sources(FILE...)    in a folder's CMakeLists.txt: .cu and .cc files of the module
#   tprun_add_cuda_module()        once, after all folders
#
# TPRUN_CUDA_ARCHITECTURES: compute capabilities to compile for, "86;90", or "all" for every one
# that is supported. By default those of this machine's GPUs, and 90.

set(TPRUN_CUDA_ARCHITECTURES "" CACHE STRING
    "Compute capabilities for the CUDA module: 86;90 or all; default: this machine's GPUs and 90")
set(TPRUN_ALL_CUDA_ARCHITECTURES 75 80 86 89 90 100 120)
set(TPRUN_OLDEST_CUDA 12.0)  # the first nvcc with C++20

# This machine's compute capabilities, "86;90"; empty without a GPU.
function(tprun_native_architectures result)
  set(found)
  find_program(TPRUN_NVIDIA_SMI nvidia-smi)
  mark_as_advanced(TPRUN_NVIDIA_SMI)
  if(TPRUN_NVIDIA_SMI)
    execute_process(COMMAND ${TPRUN_NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
                    OUTPUT_VARIABLE text ERROR_QUIET TIMEOUT 20)
    string(REGEX MATCHALL "[0-9]+\\.[0-9]" capabilities "${text}")
    string(REPLACE "." "" found "${capabilities}")
  endif()
  set(${result} ${found} PARENT_SCOPE)
endfunction()

# What of TPRUN_CUDA_ARCHITECTURES this nvcc can compile for, in order, each once.
function(tprun_choose_architectures result)
  set(wanted ${TPRUN_CUDA_ARCHITECTURES})
  if(wanted STREQUAL "all")
    set(wanted ${TPRUN_ALL_CUDA_ARCHITECTURES})
  elseif(NOT wanted)
    tprun_native_architectures(native)
    set(wanted ${native} 90)
  endif()
  list(REMOVE_DUPLICATES wanted)
  list(SORT wanted COMPARE NATURAL)
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE known)
  set(chosen)
  foreach(architecture ${wanted})
    if(known MATCHES "compute_${architecture}\n")
      list(APPEND chosen ${architecture})
    else()
      message(STATUS "nvcc cannot compile for compute capability ${architecture}: left out")
    endif()
  endforeach()
  if(NOT chosen)
    message(FATAL_ERROR "TPRUN_CUDA_ARCHITECTURES=${TPRUN_CUDA_ARCHITECTURES}: this nvcc knows "
                        "none of them, but: ${known}")
  endif()
  set(${result} ${chosen} PARENT_SCOPE)
endfunction()

function(tprun_cuda_sources)
  foreach(source ${ARGN})
    get_filename_component(source ${source} ABSOLUTE)
    set_property(GLOBAL APPEND PROPERTY TPRUN_CUDA_SOURCES ${source})
  endforeach()
endfunction()

# Tells builds apart whose C++ types differ: a digest of the headers that cross the border.
function(tprun_cuda_interface_digest result)
  set(text "${CMAKE_CXX_COMPILER_ID} ${CMAKE_BUILD_TYPE} ${TPRUN_SANITIZE} ${absl_VERSION}")
  foreach(header comm/cuda_module.h comm/peer_options.h comm/device.h comm/device_probe.h comm/communicator.h comm/sum_and_norm.h
          engine/kernels/kernels.h engine/kernels/sampling.h engine/format/weight_format.h)
    file(SHA256 ${CMAKE_SOURCE_DIR}/${header} digest)
    string(APPEND text " ${digest}")
    set_property(DIRECTORY ${CMAKE_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
                 ${CMAKE_SOURCE_DIR}/${header})
  endforeach()
  string(SHA256 digest "${text}")
  string(SUBSTRING ${digest} 0 12 digest)
  set(${result} ${digest} PARENT_SCOPE)
endfunction()

set(TPRUN_CUDA_MODULE OFF)
if(TPRUN_WITH_CUDA AND CUDAToolkit_FOUND AND CUDAToolkit_NVCC_EXECUTABLE)
  if(CUDAToolkit_VERSION VERSION_LESS TPRUN_OLDEST_CUDA)
    set(TPRUN_CUDA_REFUSED "toolkit ${CUDAToolkit_VERSION} is too old, wanted ${TPRUN_OLDEST_CUDA}")
  else()
    set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
    tprun_choose_architectures(TPRUN_CUDA_CHOSEN)
    list(JOIN TPRUN_CUDA_CHOSEN " " TPRUN_CUDA_CHOSEN_TEXT)
    set(CMAKE_CUDA_ARCHITECTURES OFF)  # given to the module itself
    enable_language(CUDA)
    # CMake before 3.25.2 does not know how to say C++20 to nvcc.
    foreach(kind STANDARD EXTENSION)
      if(NOT CMAKE_CUDA20_${kind}_COMPILE_OPTION)
        set(CMAKE_CUDA20_${kind}_COMPILE_OPTION "-std=c++20")
      endif()
    endforeach()
    if(CCACHE_PROGRAM AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
    endif()
    tprun_cuda_interface_digest(TPRUN_CUDA_INTERFACE)
    set(TPRUN_CUDA_MODULE ON)
  endif()
endif()

# NCCL's library is loaded at run time; only its header is needed.
set(TPRUN_NCCL OFF)
if(TPRUN_CUDA_MODULE AND NCCL_INCLUDE_DIR)
  tprun_nccl_version(version)
  if(NOT version VERSION_LESS 2.18)  # the first whose communicators can be split
    set(TPRUN_NCCL ON)
  endif()
endif()

# Machine code for each architecture, and for the newest also PTX, which later GPUs compile at start.
function(tprun_cuda_code_of_architectures result)
  list(TRANSFORM TPRUN_CUDA_CHOSEN APPEND "-real" OUTPUT_VARIABLE code)
  list(GET TPRUN_CUDA_CHOSEN -1 newest)
  list(APPEND code ${newest}-virtual)
  set(${result} ${code} PARENT_SCOPE)
endfunction()

function(tprun_add_cuda_module)
  if(NOT TPRUN_CUDA_MODULE)
    return()
  endif()
  get_property(sources GLOBAL PROPERTY TPRUN_CUDA_SOURCES)
  add_library(tprun_cuda_module MODULE ${sources})
  tprun_cuda_code_of_architectures(code)
  # The module's copy of shared sources (base/units.cc, ...) must not take the place of the
  # program's: nothing but the entry is visible.
  set_target_properties(tprun_cuda_module PROPERTIES
    OUTPUT_NAME tprun_cuda CUDA_ARCHITECTURES "${code}" CXX_VISIBILITY_PRESET hidden
    CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON POSITION_INDEPENDENT_CODE ON
    CUDA_RUNTIME_LIBRARY Static LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
  target_include_directories(tprun_cuda_module PRIVATE ${CMAKE_SOURCE_DIR})
  target_include_directories(tprun_cuda_module SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS}
                             $<$<BOOL:${TPRUN_NCCL}>:${NCCL_INCLUDE_DIR}>)
  set_source_files_properties(${CMAKE_SOURCE_DIR}/comm/cuda_module_of_comm.cc PROPERTIES
    COMPILE_DEFINITIONS TPRUN_CUDA_INTERFACE="${TPRUN_CUDA_INTERFACE}")
  target_compile_definitions(tprun_cuda_module PRIVATE
    TPRUN_CUDA_ARCHITECTURES="${TPRUN_CUDA_CHOSEN_TEXT}")
  target_compile_options(tprun_cuda_module PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wno-sign-compare;-Wno-missing-field-initializers>
    $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-Wno-restrict>
    $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-Xcompiler=-Wall>)
  if(TPRUN_SANITIZE)
    target_compile_options(tprun_cuda_module PRIVATE
      $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${TPRUN_SANITIZE};-fno-omit-frame-pointer;-g1>)
    target_link_options(tprun_cuda_module PRIVATE -fsanitize=${TPRUN_SANITIZE})
  endif()
  target_link_libraries(tprun_cuda_module PRIVATE
    absl::status absl::statusor absl::strings absl::str_format absl::span absl::time
    CUDA::cudart_static CUDA::cublasLt Threads::Threads ${CMAKE_DL_LIBS})
  # Whoever has the program has the module beside it.
  add_dependencies(tprun tprun_cuda_module)
  install(TARGETS tprun_cuda_module LIBRARY DESTINATION lib)
endfunction()
