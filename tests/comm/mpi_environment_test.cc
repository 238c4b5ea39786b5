#include "comm/mpi_environment.h"

#include <map>

#include "gtest/gtest.h"

namespace tprun {
namespace {

using Variables = std::map<std::string, std::string>;

GetEnvironment From(const Variables& variables) {
  return [variables](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

bool Started(const Variables& variables) { return StartedByMpi(From(variables)); }

TEST(StartedByMpiTest, KnowsTheLaunchers) {
  EXPECT_TRUE(Started({{"OMPI_COMM_WORLD_SIZE", "1"}}));
  EXPECT_TRUE(Started({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}}));
  EXPECT_TRUE(Started({{"PMIX_RANK", "3"}}));
  EXPECT_TRUE(Started({{"MPI_LOCALNRANKS", "2"}}));
  EXPECT_TRUE(
      Started({{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}}));
}

TEST(StartedByMpiTest, AShellIsNoRank) {
  EXPECT_FALSE(Started({}));
  EXPECT_FALSE(Started({{"PATH", "/bin"}, {"PMI_RANK", ""}}));
  // salloc; then salloc with an interactive step; then a batch script.
  EXPECT_FALSE(Started({{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "4"}}));
  EXPECT_FALSE(Started(
      {{"SLURM_STEP_ID", "4294967290"}, {"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}}));
  EXPECT_FALSE(Started({{"SLURM_JOB_ID", "7"}, {"SLURM_PROCID", "0"}}));
}

TEST(SingleHostTransportsTest, OnlyForOpenMpiOnOneHost) {
  const Variables one_host = {{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}};
  const Variables two_hosts = {{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
  const auto version_4 = SingleHostTransports("Open MPI v4.1.4, package: x", From(one_host));
  ASSERT_EQ(version_4.size(), 2);
  EXPECT_EQ(version_4[0], std::make_pair(std::string("OMPI_MCA_pml"), std::string("ob1")));
  EXPECT_EQ(version_4[1].second, "self,vader");
  EXPECT_EQ(SingleHostTransports("Open MPI v5.0.3", From(one_host))[1].second, "self,sm");
  EXPECT_TRUE(SingleHostTransports("Open MPI v4.1.4", From(two_hosts)).empty());
  EXPECT_TRUE(SingleHostTransports("Open MPI v4.1.4", From({})).empty());
  EXPECT_TRUE(SingleHostTransports("MPICH Version: 4.0", From(one_host)).empty());
}

TEST(SingleHostTransportsTest, LeavesTheUsersChoice) {
  const Variables chosen = {{"OMPI_COMM_WORLD_SIZE", "4"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                            {"OMPI_MCA_btl", "tcp,self"}};
  EXPECT_TRUE(SingleHostTransports("Open MPI v4.1.4", From(chosen)).empty());
}

}  // namespace
}  // namespace tprun
