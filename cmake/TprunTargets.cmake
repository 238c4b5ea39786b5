# tprun_library(NAME SRCS ... DEPS ...): a static library of one folder.
# tprun_test(NAME SRCS ... DEPS ... [LABELS ...] [TIMEOUT seconds]): a GoogleTest program.

add_library(tprun_options INTERFACE)
target_include_directories(tprun_options INTERFACE ${CMAKE_SOURCE_DIR})
# -Wrestrict: GCC 12 warns of every "x" + std::string (its bug 105329).
target_compile_options(tprun_options INTERFACE -Wall -Wextra -Wno-sign-compare -Wno-missing-field-initializers
                       $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
if(TPRUN_SANITIZE)
  target_compile_options(tprun_options INTERFACE -fsanitize=${TPRUN_SANITIZE}
                         -fno-omit-frame-pointer -fno-sanitize-recover=all -g1)
  target_link_options(tprun_options INTERFACE -fsanitize=${TPRUN_SANITIZE})
endif()

function(tprun_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SRCS})
  target_link_libraries(${name} PUBLIC tprun_options absl::status absl::statusor absl::strings
                        absl::str_format absl::span absl::time ${ARG_DEPS})
endfunction()

function(tprun_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_compile_definitions(${name} PRIVATE TPRUN_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                             TPRUN_BINARY_DIR="${CMAKE_BINARY_DIR}")
  add_test(NAME ${name} COMMAND ${name})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS fast)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
endfunction()
