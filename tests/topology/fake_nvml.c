// A stand-in for libnvidia-ml.so.1 with the functions tprun calls. FAKE_NVML_MACHINE selects the
// machine: "unlike" (default: an RTX 3090 and an RTX 3060), "pair" (two bridged RTX 3090 and one
// without), "switch" (three H100 on NVSwitch), "mig" (an A100 with two instances), "grace" (a
// GH200), "sick" (two A100 with about everything wrong), "down" (NVML does not start). Built three
// times: with FAKE_NVML_WITHOUT_COUNT it lacks a function that is needed, with FAKE_NVML_OLD those
// that an old driver lacks.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct card {
  const char* name;
  const char* uuid;
  unsigned bus, pci_id;
  unsigned long long total, free;
  int major, minor;
  unsigned max_generation, generation, max_width, width, card_generation;
  int links;          // active NVLink links
  unsigned peer_bus;  // 0: a switch
  int p2p_status;     // with every other card
  int level;          // of the ancestor in common with every other card
  int mig_instances;  // -1: no MIG, 0: off
  int c2c;
  int pstate, sick;
  int instance_of;  // index + 1 of the card that this is a MIG instance of
};

struct pci_info {
  char legacy[16];
  unsigned domain, bus, device, id, subsystem;
  char bus_id[32];
};

#define MIB(x) ((x)*1048576ull)
#define RTX3090                                                                                    \
  .name = "NVIDIA GeForce RTX 3090", .total = MIB(24576), .free = MIB(24000),                      \
  .pci_id = 0x220410de, .major = 8, .minor = 6, .max_generation = 4, .max_width = 16, .width = 16, \
  .card_generation = 4, .mig_instances = -1
#define H100                                                                                      \
  .name = "NVIDIA H100 80GB HBM3", .total = MIB(81559), .free = MIB(81000), .pci_id = 0x233010de, \
  .major = 9, .max_generation = 5, .generation = 5, .max_width = 16, .width = 16,                 \
  .card_generation = 5, .level = 50
#define A100                                                                                      \
  .name = "NVIDIA A100-SXM4-40GB", .total = MIB(40960), .free = MIB(40000), .pci_id = 0x20b010de, \
  .major = 8, .max_generation = 4, .generation = 4, .max_width = 16, .width = 16,                 \
  .card_generation = 4

static const struct card kUnlike[] = {{RTX3090, .uuid = "GPU-aaaa1111-0000", .bus = 0x65,
                                       .generation = 1, .p2p_status = 1, .level = 50, .pstate = 8},
                                      {.name = "NVIDIA GeForce RTX 3060",
                                       .uuid = "GPU-aabb2222-0000",
                                       .bus = 0xb3,
                                       .pci_id = 0x250310de,
                                       .total = MIB(12288),
                                       .free = MIB(11900),
                                       .major = 8,
                                       .minor = 6,
                                       .max_generation = 4,
                                       .generation = 1,
                                       .max_width = 16,
                                       .width = 4,
                                       .card_generation = 4,
                                       .mig_instances = -1,
                                       .p2p_status = 1,
                                       .level = 50,
                                       .pstate = 8}};
static const struct card kPair[] = {
    {RTX3090, .uuid = "GPU-1", .bus = 0x01, .generation = 4, .links = 4, .peer_bus = 0x41,
     .level = 30},
    {RTX3090, .uuid = "GPU-2", .bus = 0x21, .generation = 4, .p2p_status = 3, .level = 30},
    {RTX3090, .uuid = "GPU-3", .bus = 0x41, .generation = 4, .links = 4, .peer_bus = 0x01,
     .level = 30}};
static const struct card kSwitch[] = {{H100, .uuid = "GPU-a", .bus = 0x11, .links = 18},
                                      {H100, .uuid = "GPU-b", .bus = 0x12, .links = 18},
                                      {H100, .uuid = "GPU-c", .bus = 0x13, .links = 9}};
static const struct card kMig[] = {{A100, .uuid = "GPU-m", .bus = 0x07, .mig_instances = 2}};
static const struct card kInstances[] = {{A100, .instance_of = 1, .uuid = "MIG-1111", .bus = 0x07},
                                         {A100, .instance_of = 1, .uuid = "MIG-2222", .bus = 0x07}};
static const struct card kGrace[] = {{.name = "NVIDIA GH200 480GB",
                                      .uuid = "GPU-g",
                                      .bus = 0x01,
                                      .pci_id = 0x234210de,
                                      .total = MIB(97871),
                                      .free = MIB(97000),
                                      .major = 9,
                                      .max_generation = 5,
                                      .generation = 5,
                                      .max_width = 16,
                                      .width = 16,
                                      .card_generation = 5,
                                      .c2c = 1}};
static const struct card kSick[] = {{A100, .uuid = "GPU-s1", .bus = 0x07, .sick = 1},
                                    {A100, .uuid = "GPU-s2", .bus = 0x0f}};

static const char* machine(void) {
  const char* name = getenv("FAKE_NVML_MACHINE");
  return name ? name : "unlike";
}
static const struct card* cards(unsigned* count) {
#define MACHINE(text, list)                    \
  if (!strcmp(machine(), text)) {              \
    *count = sizeof(list) / sizeof((list)[0]); \
    return list;                               \
  }
  MACHINE("pair", kPair)
  MACHINE("switch", kSwitch)
  MACHINE("mig", kMig)
  MACHINE("grace", kGrace)
  MACHINE("sick", kSick)
  *count = 2;
  return kUnlike;
}

int nvmlInit_v2(void) { return strcmp(machine(), "down") ? 0 : 9; }
int nvmlShutdown(void) { return 0; }
const char* nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : "fake error"; }
#ifndef FAKE_NVML_WITHOUT_COUNT
int nvmlDeviceGetCount_v2(unsigned* count) {
  cards(count);
  return 0;
}
#endif
int nvmlDeviceGetHandleByIndex_v2(unsigned index, const struct card** card) {
  unsigned count;
  const struct card* all = cards(&count);
  if (index >= count) return 2;
  *card = &all[index];
  return 0;
}
int nvmlDeviceGetName(const struct card* card, char* text, unsigned length) {
  snprintf(text, length, "%s%s", card->name, card->instance_of ? " MIG 3g.20gb" : "");
  return 0;
}
int nvmlDeviceGetUUID(const struct card* card, char* text, unsigned length) {
  snprintf(text, length, "%s", card->uuid);
  return 0;
}
static void fill_pci(unsigned bus, unsigned id, struct pci_info* pci) {
  memset(pci, 0, sizeof(*pci));
  pci->bus = bus;
  pci->id = id;
  snprintf(pci->bus_id, sizeof(pci->bus_id), "00000000:%02X:00.0", bus);
}
int nvmlDeviceGetPciInfo_v3(const struct card* card, struct pci_info* pci) {
  fill_pci(card->bus, card->pci_id, pci);
  return 0;
}
int nvmlDeviceGetMemoryInfo(const struct card* card, unsigned long long* memory) {
  memory[0] = card->total;
  memory[1] = card->free;
  memory[2] = card->total - card->free;
  return 0;
}
int nvmlDeviceGetCudaComputeCapability(const struct card* card, int* major, int* minor) {
  *major = card->major;
  *minor = card->minor;
  return 0;
}

#ifndef FAKE_NVML_OLD
struct memory_v2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};
int nvmlDeviceGetMemoryInfo_v2(const struct card* card, struct memory_v2* memory) {
  if (memory->version != (sizeof(*memory) | (2u << 24))) return 2;
  const int part = card->instance_of ? 2 : 1;
  memory->total = card->total / part;
  memory->reserved = MIB(300);
  memory->free = card->free / part - MIB(300);
  return 0;
}
int nvmlDeviceGetCurrPcieLinkGeneration(const struct card* card, unsigned* value) {
  *value = card->sick ? 1 : card->generation;
  return 0;
}
int nvmlDeviceGetMaxPcieLinkGeneration(const struct card* card, unsigned* value) {
  *value = card->sick ? 3 : card->max_generation;
  return 0;
}
int nvmlDeviceGetGpuMaxPcieLinkGeneration(const struct card* card, unsigned* value) {
  *value = card->card_generation;
  return 0;
}
int nvmlDeviceGetCurrPcieLinkWidth(const struct card* card, unsigned* value) {
  *value = card->sick ? 8 : card->width;
  return 0;
}
int nvmlDeviceGetMaxPcieLinkWidth(const struct card* card, unsigned* value) {
  *value = card->max_width;
  return 0;
}
int nvmlDeviceGetNvLinkState(const struct card* card, unsigned link, int* active) {
  if (card->links == 0 || link >= 18) return 3;  // not supported
  *active = (int)link < card->links;
  return 0;
}
int nvmlDeviceGetNvLinkVersion(const struct card* card, unsigned link, unsigned* version) {
  (void)link;
  *version = card->major == 9 ? 6 : 5;
  return 0;
}
int nvmlDeviceGetNvLinkRemotePciInfo_v2(const struct card* card, unsigned link,
                                        struct pci_info* pci) {
  (void)link;
  fill_pci(card->peer_bus, 0, pci);
  return 0;
}
int nvmlDeviceGetNvLinkRemoteDeviceType(const struct card* card, unsigned link, int* type) {
  (void)link;
  *type = card->peer_bus == 0 ? 2 : 0;
  return 0;
}
int nvmlDeviceGetTopologyCommonAncestor(const struct card* a, const struct card* b, int* level) {
  *level = a->level > b->level ? a->level : b->level;
  return 0;
}
int nvmlDeviceGetP2PStatus(const struct card* a, const struct card* b, int index, int* status) {
  if (index < 0 || index > 4) return 2;
  *status = a->p2p_status != 0 ? a->p2p_status : b->p2p_status;
  return 0;
}
// CPUs 0-3 and 64-67.
int nvmlDeviceGetCpuAffinity(const struct card* card, unsigned words, unsigned long* set) {
  (void)card;
  memset(set, 0, words * sizeof(*set));
  if (words < 2) return 7;
  set[0] = set[1] = 0xf;
  return 0;
}
int nvmlDeviceGetC2cModeInfoV(const struct card* card, unsigned* enabled) {
  *enabled = (unsigned)card->c2c;
  return 0;
}
int nvmlDeviceGetMigMode(const struct card* card, unsigned* current, unsigned* pending) {
  if (card->mig_instances < 0) return 3;
  *current = *pending = card->mig_instances > 0;
  return 0;
}
int nvmlDeviceGetMaxMigDeviceCount(const struct card* card, unsigned* count) {
  *count = card->mig_instances > 0 ? 7 : 0;
  return 0;
}
int nvmlDeviceGetMigDeviceHandleByIndex(const struct card* card, unsigned index,
                                        const struct card** instance) {
  if ((int)index >= card->mig_instances) return 6;
  *instance = &kInstances[index];
  return 0;
}
struct process {
  unsigned pid;
  unsigned long long used;
  unsigned gpu_instance, compute_instance;
};
// The first card of "unlike": one process that computes and draws, and one that cannot be seen.
int nvmlDeviceGetComputeRunningProcesses_v3(const struct card* card, unsigned* count,
                                            struct process* list) {
  const unsigned room = *count;
  *count = card == &kUnlike[0] ? 2 : 0;
  if (*count == 0) return 0;
  if (room < 2) return 7;
  list[0] = (struct process){.pid = 4242, .used = MIB(500)};
  list[1] = (struct process){.pid = 5151, .used = ~0ull};
  return 0;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(const struct card* card, unsigned* count,
                                             struct process* list) {
  const unsigned room = *count;
  *count = card == &kUnlike[0] ? 1 : 0;
  if (*count > room) return 7;
  if (*count == 1) list[0] = (struct process){.pid = 4242, .used = MIB(400)};
  return 0;
}
int nvmlSystemGetProcessName(unsigned pid, char* text, unsigned length) {
  if (pid != 4242) return 6;
  snprintf(text, length, "/usr/bin/python3");
  return 0;
}
int nvmlSystemGetDriverVersion(char* text, unsigned length) {
  snprintf(text, length, "535.154.05");
  return 0;
}
int nvmlSystemGetNVMLVersion(char* text, unsigned length) {
  snprintf(text, length, "12.535.154.05");
  return 0;
}
int nvmlSystemGetCudaDriverVersion_v2(int* version) {
  *version = 12020;
  return 0;
}
int nvmlDeviceGetPerformanceState(const struct card* card, int* state) {
  *state = card->pstate;
  return 0;
}
int nvmlDeviceGetTotalEccErrors(const struct card* card, int type, int counter,
                                unsigned long long* errors) {
  if (type != 1 || counter != 0) return 2;
  *errors = card->sick ? 3 : 0;
  return 0;
}
int nvmlDeviceGetRemappedRows(const struct card* card, unsigned* corrected, unsigned* uncorrected,
                              unsigned* pending, unsigned* failed) {
  *corrected = *uncorrected = *failed = 0;
  *pending = (unsigned)card->sick;
  return 0;
}
int nvmlDeviceGetRetiredPagesPendingStatus(const struct card* card, int* pending) {
  (void)card;
  (void)pending;
  return 3;
}
int nvmlDeviceGetCurrentClocksEventReasons(const struct card* card, unsigned long long* bits) {
  *bits = card->sick ? 0x40 | 0x8 : 0x1;
  return 0;
}
struct fabric {
  unsigned char cluster[16];
  int status;
  unsigned clique;
  unsigned char state;
};
int nvmlDeviceGetGpuFabricInfo(const struct card* card, struct fabric* info) {
  memset(info, 0, sizeof(*info));
  info->state = card->sick ? 1 : card->links == 18 ? 3 : 0;
  return 0;
}
int nvmlDeviceGetPersistenceMode(const struct card* card, int* mode) {
  *mode = card->sick ? 0 : 1;
  return 0;
}
#endif
