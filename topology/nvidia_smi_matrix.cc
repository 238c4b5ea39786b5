#include "topology/nvidia_smi_matrix.h"

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

// How many of the columns are GPUs; the rest are NICs.
absl::StatusOr<size_t> CountGpus(const NvidiaSmiGrid& grid, const std::string& path) {
  size_t count = 0;
  std::set<std::string> names;
  for (const std::string& name : grid.columns) {
    const bool is_gpu = GpuNumber(name) >= 0;
    if (is_gpu && count != names.size()) {
      return LineError(path, grid.line, absl::StrCat(name, " stands behind a network card"));
    }
    if (!names.insert(name).second) {
      return LineError(path, grid.line, absl::StrCat("there are two columns ", name));
    }
    count += is_gpu;
  }
  if (count > kMaxGpus) return LineError(path, grid.line, "there are over 256 GPUs");
  return count;
}

// Without a header the rows tell what the columns are, as far as they have rows of their own.
void TakeColumnsFromRows(NvidiaSmiGrid& grid) {
  for (const NvidiaSmiGrid::Row& row : grid.rows) {
    const size_t self = grid.columns.size();
    const bool is_next = row.cells.size() > self && row.cells[self] == "X";
    if (is_next || GpuNumber(row.name) >= 0) grid.columns.push_back(row.name);
  }
  for (NvidiaSmiGrid::Row& row : grid.rows) {
    if (row.cells.size() > grid.columns.size()) row.cells.resize(grid.columns.size());
  }
}

const NvidiaSmiGrid::Row* FindRow(const NvidiaSmiGrid& grid, absl::string_view name) {
  for (const NvidiaSmiGrid::Row& row : grid.rows) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

absl::Status CheckGpuRows(const NvidiaSmiGrid& grid, size_t gpus, const std::string& path) {
  size_t next = 0;
  for (const NvidiaSmiGrid::Row& row : grid.rows) {
    if (GpuNumber(row.name) < 0) continue;
    if (next == gpus || row.name != grid.columns[next]) {
      return LineError(
          path, row.line,
          absl::StrCat("wanted the row of ", next < gpus ? grid.columns[next] : "a NIC",
                       " to match the columns, found ", row.name));
    }
    if (row.cells.size() < grid.columns.size()) {
      return LineError(
          path, row.line,
          absl::StrCat(
              "wanted a cell (X, NV#, PIX, PXB, PHB, NODE, SYS) for each of the ",
              grid.columns.size(), " columns, found ", row.cells.size(), " and then \"",
              absl::StripAsciiWhitespace(absl::string_view(row.text).substr(row.tail_position))
                  .substr(0, 40),
              "\""));
    }
    ++next;
  }
  if (next < gpus) {
    return LineError(path, grid.rows.back().line,
                     absl::StrCat("wanted a row for each of the ", gpus, " GPUs, found ", next));
  }
  return absl::OkStatus();
}

absl::Status CheckDiagonal(const NvidiaSmiGrid& grid, const NvidiaSmiGrid::Row& row, size_t self,
                           const std::string& path) {
  for (size_t i = 0; i < row.cells.size(); ++i) {
    if ((row.cells[i] == "X") == (i == self)) continue;
    return LineError(path, row.line,
                     absl::StrCat("wanted X (self) toward ", row.name, " only, found ",
                                  row.cells[i], " toward ", grid.columns[i]));
  }
  return absl::OkStatus();
}

// X on the diagonal only, and both halves equal. Rows of NICs may be cut or missing.
absl::Status CheckCells(const NvidiaSmiGrid& grid, const std::string& path) {
  std::vector<const NvidiaSmiGrid::Row*> rows;
  for (const std::string& name : grid.columns) rows.push_back(FindRow(grid, name));
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] == nullptr) continue;
    RETURN_IF_ERROR(CheckDiagonal(grid, *rows[i], i, path));
    for (size_t j = 0; j < i && j < rows[i]->cells.size(); ++j) {
      if (rows[j] == nullptr || rows[j]->cells.size() <= i) continue;
      if (rows[j]->cells[i] == rows[i]->cells[j]) continue;
      return LineError(path, rows[i]->line,
                       absl::StrCat("the matrix is not symmetric: ", grid.columns[j], " to ",
                                    grid.columns[i], " is ", rows[j]->cells[i], " in line ",
                                    rows[j]->line, " and ", rows[i]->cells[j], " here"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadRowAffinities(const NvidiaSmiGrid& grid, const NvidiaSmiGrid::Row& row,
                               NvidiaSmiMatrix::Gpu& gpu, NvidiaSmiMatrix& matrix,
                               const std::string& path) {
  const absl::StatusOr<AffinityValues> values = ReadAffinities(
      row.text, row.tail_position, grid.header, grid.tail_position, matrix.affinity_columns);
  if (values.ok()) {
    gpu.affinities = *values;
  } else if (WordsOf(absl::string_view(row.text).substr(row.tail_position)).size() >
             static_cast<size_t>(matrix.affinity_columns)) {
    return LineError(path, row.line, values.status().message());
  } else {
    matrix.notes.push_back(absl::StrCat(path, ":", row.line, ": ", values.status().message(),
                                        "; the affinities of ", row.name, " are left out"));
  }
  return absl::OkStatus();
}

absl::StatusOr<NvidiaSmiMatrix> CheckedMatrix(NvidiaSmiGrid grid, const std::string& path) {
  NvidiaSmiMatrix matrix;
  matrix.has_header = grid.header_line > 0;
  if (!matrix.has_header) {
    TakeColumnsFromRows(grid);
    matrix.notes.push_back(absl::StrCat(
        path, ":", grid.line,
        ": the header of `nvidia-smi topo -m` is missing: what stands behind the columns of the "
        "rows shown (affinities, more NICs) is not known and left out"));
  }
  ASSIGN_OR_RETURN(const size_t gpus, CountGpus(grid, path));
  RETURN_IF_ERROR(CheckGpuRows(grid, gpus, path));
  RETURN_IF_ERROR(CheckCells(grid, path));
  const absl::StatusOr<int> affinities = ParseAffinityHeader(
      absl::string_view(grid.header).substr(std::min(grid.tail_position, grid.header.size())));
  if (!affinities.ok()) return LineError(path, grid.line, affinities.status().message());
  matrix.affinity_columns = *affinities;
  for (const NvidiaSmiGrid::Row& row : grid.rows) {
    if (GpuNumber(row.name) < 0) continue;
    NvidiaSmiMatrix::Gpu gpu = {GpuNumber(row.name), row.line, row.cells, {}};
    if (matrix.has_header) {
      RETURN_IF_ERROR(ReadRowAffinities(grid, row, gpu, matrix, path));
    }
    matrix.gpus.push_back(std::move(gpu));
  }
  matrix.columns = std::move(grid.columns);
  return matrix;
}

// "  NIC0: mlx5_0". With over 40 NICs nvidia-smi itself prints rubbish ("NIC1: MA ID").
void ReadNicLegend(const std::vector<TextLine>& lines, const std::string& path,
                   NvidiaSmiMatrix& matrix) {
  const std::set<std::string> columns(matrix.columns.begin(), matrix.columns.end());
  for (const TextLine& line : lines) {
    const absl::string_view text = absl::StripAsciiWhitespace(line.text);
    const size_t colon = text.find(": ");
    if (!absl::StartsWith(text, "NIC") || colon == absl::string_view::npos) continue;
    const std::string column(text.substr(0, colon));
    const absl::string_view name = absl::StripAsciiWhitespace(text.substr(colon + 1));
    if (columns.count(column) == 0) continue;
    if (name.empty() || WordsOf(name).size() > 1) {
      matrix.notes.push_back(absl::StrCat(path, ":", line.number, ": the NIC legend says \"", name,
                                          "\", which is no device; ", column, " has no name"));
    } else {
      matrix.nic_names[column] = std::string(name);
    }
  }
}

bool SameCells(const NvidiaSmiMatrix& a, const NvidiaSmiMatrix& b) {
  if (a.columns != b.columns || a.gpus.size() != b.gpus.size()) return false;
  for (size_t i = 0; i < a.gpus.size(); ++i) {
    if (a.gpus[i].cells != b.gpus[i].cells) return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<NvidiaSmiMatrix> ParseNvidiaSmiMatrix(const std::string& text,
                                                     const std::string& path) {
  const std::vector<TextLine> lines = CleanLines(text);
  const std::vector<NvidiaSmiGrid> grids = FindGrids(lines);
  std::optional<NvidiaSmiMatrix> matrix;
  for (const NvidiaSmiGrid& grid : grids) {
    if (grid.is_peer_states()) continue;
    ASSIGN_OR_RETURN(NvidiaSmiMatrix next, CheckedMatrix(grid, path));
    if (matrix.has_value() && !SameCells(*matrix, next)) {
      return LineError(path, grid.line,
                       "a second matrix that differs from the first; keep each in its own file");
    }
    if (!matrix.has_value()) matrix = std::move(next);
  }
  if (!matrix.has_value() && !grids.empty()) {
    return LineError(path, grids[0].line,
                     "this is `nvidia-smi topo -p2p`: it says which GPUs reach each other, not how "
                     "they are linked; wanted `nvidia-smi topo -m`");
  }
  if (!matrix.has_value()) {
    return LineError(path, 1, "wanted the matrix of `nvidia-smi topo -m`, found none");
  }
  ReadNicLegend(lines, path, *matrix);
  return *std::move(matrix);
}

}  // namespace tprun
