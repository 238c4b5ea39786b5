// A stand-in for libnvidia-ml.so.1 with the functions tprun calls. FAKE_NVML_MACHINE selects the
// machine: "unlike" (default: an RTX 3090 and an RTX 3060), "pair" (two bridged RTX 3090 and one
// without), "switch" (three H100 on NVSwitch), "down" (NVML does not start).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct card {
  const char* name;
  const char* uuid;
  unsigned bus;
  unsigned long long total, free;
  int major, minor;
  unsigned max_generation, generation, max_width, width;
  int links;           // active NVLink links
  unsigned peer_bus;   // 0: a switch
};

struct pci_info {
  char legacy[16];
  unsigned domain, bus, device, id, subsystem;
  char bus_id[32];
};

static const unsigned long long kMiB = 1ull << 20;
static const struct card kUnlike[] = {
    {"NVIDIA GeForce RTX 3090", "GPU-aaaa1111-0000", 0x65, 24576ull << 20, 24000ull << 20, 8, 6, 4,
     1, 16, 16, 0, 0},
    {"NVIDIA GeForce RTX 3060", "GPU-aabb2222-0000", 0xb3, 12288ull << 20, 11900ull << 20, 8, 6, 4,
     1, 16, 4, 0, 0}};
static const struct card kPair[] = {
    {"NVIDIA GeForce RTX 3090", "GPU-1", 0x01, 24576ull << 20, 24000ull << 20, 8, 6, 4, 4, 16, 16,
     4, 0x41},
    {"NVIDIA GeForce RTX 3090", "GPU-2", 0x21, 24576ull << 20, 24000ull << 20, 8, 6, 4, 4, 16, 16,
     0, 0},
    {"NVIDIA GeForce RTX 3090", "GPU-3", 0x41, 24576ull << 20, 24000ull << 20, 8, 6, 4, 4, 16, 16,
     4, 0x01}};
static const struct card kSwitch[] = {
    {"NVIDIA H100 80GB HBM3", "GPU-a", 0x11, 81559ull << 20, 81000ull << 20, 9, 0, 5, 5, 16, 16, 18,
     0},
    {"NVIDIA H100 80GB HBM3", "GPU-b", 0x12, 81559ull << 20, 81000ull << 20, 9, 0, 5, 5, 16, 16, 18,
     0},
    {"NVIDIA H100 80GB HBM3", "GPU-c", 0x13, 81559ull << 20, 81000ull << 20, 9, 0, 5, 5, 16, 16, 9,
     0}};

static const char* machine(void) {
  const char* name = getenv("FAKE_NVML_MACHINE");
  return name ? name : "unlike";
}
static const struct card* cards(void) {
  return !strcmp(machine(), "pair") ? kPair : !strcmp(machine(), "switch") ? kSwitch : kUnlike;
}

int nvmlInit_v2(void) { return strcmp(machine(), "down") ? 0 : 9; }
int nvmlShutdown(void) { return 0; }
const char* nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : "fake error"; }
#ifndef FAKE_NVML_WITHOUT_COUNT
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = cards() == kUnlike ? 2 : 3;
  return 0;
}
#endif
int nvmlDeviceGetHandleByIndex_v2(unsigned index, const struct card** card) {
  *card = &cards()[index];
  return 0;
}
int nvmlDeviceGetName(const struct card* card, char* text, unsigned length) {
  snprintf(text, length, "%s", card->name);
  return 0;
}
int nvmlDeviceGetUUID(const struct card* card, char* text, unsigned length) {
  snprintf(text, length, "%s", card->uuid);
  return 0;
}
static void fill_pci(unsigned bus, struct pci_info* pci) {
  memset(pci, 0, sizeof(*pci));
  pci->bus = bus;
  snprintf(pci->bus_id, sizeof(pci->bus_id), "00000000:%02X:00.0", bus);
}
int nvmlDeviceGetPciInfo_v3(const struct card* card, struct pci_info* pci) {
  fill_pci(card->bus, pci);
  return 0;
}
int nvmlDeviceGetMemoryInfo(const struct card* card, unsigned long long* memory) {
  memory[0] = card->total;
  memory[1] = card->free;
  memory[2] = card->total - card->free;
  return 0;
}
struct memory_v2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};
int nvmlDeviceGetMemoryInfo_v2(const struct card* card, struct memory_v2* memory) {
  if (memory->version != (sizeof(*memory) | (2u << 24))) return 2;
  memory->total = card->total;
  memory->reserved = 300 * kMiB;
  memory->free = card->free - 300 * kMiB;
  return 0;
}
int nvmlDeviceGetCudaComputeCapability(const struct card* card, int* major, int* minor) {
  *major = card->major;
  *minor = card->minor;
  return 0;
}
int nvmlDeviceGetCurrPcieLinkGeneration(const struct card* card, unsigned* value) {
  *value = card->generation;
  return 0;
}
int nvmlDeviceGetMaxPcieLinkGeneration(const struct card* card, unsigned* value) {
  *value = card->max_generation;
  return 0;
}
int nvmlDeviceGetCurrPcieLinkWidth(const struct card* card, unsigned* value) {
  *value = card->width;
  return 0;
}
int nvmlDeviceGetMaxPcieLinkWidth(const struct card* card, unsigned* value) {
  *value = card->max_width;
  return 0;
}
int nvmlDeviceGetNvLinkState(const struct card* card, unsigned link, int* active) {
  if (card->links == 0) return 3;  // not supported
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
  fill_pci(card->peer_bus, pci);
  return 0;
}
int nvmlDeviceGetNvLinkRemoteDeviceType(const struct card* card, unsigned link, int* type) {
  (void)link;
  *type = card->peer_bus == 0 ? 2 : 0;
  return 0;
}
