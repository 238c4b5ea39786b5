# The CUDA engine's sources. The module compiles them with nvcc; tests with the host's compiler,
# where gemm_cublaslt.cc has another twin.
set(TPRUN_CUDA_KERNEL_SOURCES
  argmax.cu attention.cu attention_bf16.cu attention_e4m3.cu attention_f16.cu attention_f32.cu attention_prefill_bf16.cu
  attention_prefill_e4m3.cu attention_prefill_f16.cu attention_prefill_q8_0.cu attention_prefill_wide.cu attention_q8_0.cu attention_wide.cu block_formats.cu code_book_formats.cu
  cuda_kernels.cc
  elementwise.cu expert_products.cc expert_tiles_blocks.cu expert_tiles_k.cu expert_tiles_packed.cu expert_tiles_plain.cu
  experts.cu fp8_products.cu heads.cu
  matvec.cu matvec_bf16.cu matvec_f16.cu matvec_fp8.cu matvec_int4.cu matvec_int4_bf16.cu matvec_mxfp4.cu
  matvec_q4_0.cu matvec_q4_k.cu matvec_q5_k.cu matvec_q6_k.cu matvec_q8_0.cu
  norm.cu plain_formats.cu projections.cc quantiser_formats.cu rope.cu sample.cu weights.cu)
list(TRANSFORM TPRUN_CUDA_KERNEL_SOURCES PREPEND ${CMAKE_SOURCE_DIR}/engine/kernels/cuda/)
