#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "topology/topology.h"

namespace tprun {

// The NVLinks between the GPUs of a host, above them: one bar when every two are joined alike, else
// arcs on tracks that do not cross.
class SvgNvlinks {
 public:
  // `places` of the GPUs (indices into Topology::devices) from left to right.
  SvgNvlinks(const Topology& topology, const std::map<int, int>& places);

  int height() const;  // pixels above the GPUs

  // `gpu_x`: the left edge of the GPU at a place; `top` and `gpu_y`: where the arcs may begin and
  // the GPUs do.
  std::string Draw(const std::function<int(int place)>& gpu_x, int gpu_width, int top,
                   int gpu_y) const;

 private:
  struct Arc {
    const Link* link = nullptr;
    int left = 0, right = 0;  // places of the GPUs
    int track = 0;
  };

  std::string Bar(const std::function<int(int place)>& gpu_x, int gpu_width, int top,
                  int gpu_y) const;
  // The point of `place`'s upper edge where an arc ends.
  int Port(int place, const Arc& wanted, int gpu_x, int gpu_width) const;

  std::map<int, int> places_;
  std::vector<Arc> arcs_;
  bool bar_ = false;
  int tracks_ = 0;
};

}  // namespace tprun
