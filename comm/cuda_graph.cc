#include "comm/cuda_graph.h"

#include "base/status_macros.h"
#include "comm/cuda_error.h"

namespace tprun {
namespace {

class CudaGraph final : public DeviceGraph {
 public:
  CudaGraph(const CudaDevice& device, cudaGraphExec_t executable)
      : device_(device), executable_(executable) {}
  ~CudaGraph() override {
    cudaSetDevice(device_.index());
    cudaGraphExecDestroy(executable_);
  }

  absl::Status Launch() override {
    RETURN_IF_ERROR(device_.MakeCurrent());
    return CUDA_STATUS(cudaGraphLaunch(executable_, device_.stream()));
  }

 private:
  const CudaDevice& device_;
  const cudaGraphExec_t executable_;
};

// Ends the recording also when `work` fails, so that the stream can be used again.
absl::StatusOr<cudaGraph_t> Record(const CudaDevice& device,
                                   const std::function<absl::Status()>& work) {
  CUDA_RETURN_IF_ERROR(cudaStreamBeginCapture(device.stream(), cudaStreamCaptureModeThreadLocal));
  const absl::Status status = work();
  cudaGraph_t graph = nullptr;
  const absl::Status ended = CUDA_STATUS(cudaStreamEndCapture(device.stream(), &graph));
  if (status.ok() && ended.ok()) return graph;
  if (graph != nullptr) cudaGraphDestroy(graph);
  return Annotate(status.ok() ? ended : status, "recording a CUDA graph");
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceGraph>> CaptureCudaGraph(
    CudaDevice& device, const std::function<absl::Status()>& work) {
  RETURN_IF_ERROR(device.MakeCurrent());
  ASSIGN_OR_RETURN(const cudaGraph_t graph, Record(device, work));
  cudaGraphExec_t executable = nullptr;
  const absl::Status status = CUDA_STATUS(cudaGraphInstantiate(&executable, graph, 0));
  cudaGraphDestroy(graph);
  RETURN_IF_ERROR(status);
  auto result = std::make_unique<CudaGraph>(device, executable);
  CUDA_RETURN_IF_ERROR(cudaGraphUpload(executable, device.stream()));
  return result;
}

}  // namespace tprun
