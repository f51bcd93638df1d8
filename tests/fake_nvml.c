/* A stand-in for NVIDIA's libnvidia-ml.so.1: what nvidia-ml-py calls, answered from a text file.
 *
 * FAKE_GPUS names that file, which is read anew at every call; fake_gpus.py writes it. Its lines:
 *
 *   generation NUMBER                                   another number: another state
 *   gpu UUID BUS_ID MIG_MODE NAME...                    in the order of NVML's indices
 *   mig GPU_UUID UUID GPU_INSTANCE COMPUTE_INSTANCE NAME...
 *   memory UUID TOTAL RESERVED FREE USED                version 1 gives the sum of USED and RESERVED as used
 *   process UUID Compute|Graphics PID BYTES|none always|once       once: it has ended before a second list
 *   fault FUNCTION CODE                                 the function returns this code
 *
 * FAKE_GPUS_LOG names a file that gets a line `PID FUNCTION` for every call. With -DOLD the library has neither
 * version 2 of the memory information nor version 3 of the list of processes.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 64
#define NOT_AVAILABLE UINT64_MAX
enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 6, INSUFFICIENT_SIZE };

typedef unsigned long long bytes_t;
typedef struct {
    char uuid[96], parent[96], bus_id[32], name[96];
    int mig_mode, gpu_instance, compute_instance, has_memory;
    bytes_t total, reserved, free, used;
} device_t;
typedef struct { char uuid[96], kind[16], when[16]; unsigned pid; bytes_t used; } process_t;
typedef struct { unsigned pid; bytes_t used; unsigned gpu_instance, compute_instance; } process_info_t;

static device_t devices[MOST];
static process_t processes[MOST];
static int n_devices, n_processes, references, lists_given;
static long generation = -1;

static device_t *by_uuid(const char *uuid) {
    for (int i = 0; i < n_devices; i++)
        if (!strcmp(devices[i].uuid, uuid)) return &devices[i];
    return NULL;
}

/* Reads the state; returns the code to fail with, for this function. */
static int enter(const char *function) {
    const char *log = getenv("FAKE_GPUS_LOG"), *state = getenv("FAKE_GPUS");
    char line[512], word[64];
    int code = SUCCESS, used;
    FILE *file = log ? fopen(log, "a") : NULL;
    if (file) {
        fprintf(file, "%d %s\n", (int)getpid(), function);
        fclose(file);
    }
    n_devices = n_processes = 0;
    file = state ? fopen(state, "r") : NULL;
    if (!file) abort();
    while (fgets(line, sizeof line, file)) {
        device_t d = {0};
        process_t p = {0};
        char amount[32];
        long number;
        bytes_t total, reserved, free_, used_;
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "generation %ld", &number) == 1) {
            if (number != generation) lists_given = 0;
            generation = number;
        } else if (sscanf(line, "gpu %95s %31s %d %n", d.uuid, d.bus_id, &d.mig_mode, &used) == 3) {
            snprintf(d.name, sizeof d.name, "%s", line + used);
            devices[n_devices++] = d;
        } else if (sscanf(line, "mig %95s %95s %d %d %n", d.parent, d.uuid, &d.gpu_instance, &d.compute_instance,
                          &used) == 4) {
            snprintf(d.name, sizeof d.name, "%s", line + used);
            devices[n_devices++] = d;
        } else if (sscanf(line, "memory %95s %llu %llu %llu %llu", d.uuid, &total, &reserved, &free_, &used_) == 5) {
            device_t *device = by_uuid(d.uuid);
            if (!device) abort();
            device->has_memory = 1;
            device->total = total, device->reserved = reserved, device->free = free_, device->used = used_;
        } else if (sscanf(line, "process %95s %15s %u %31s %15s", p.uuid, p.kind, &p.pid, amount, p.when) == 5) {
            p.used = strcmp(amount, "none") ? strtoull(amount, NULL, 10) : NOT_AVAILABLE;
            processes[n_processes++] = p;
        } else if (sscanf(line, "fault %63s %ld", word, &number) == 2) {
            if (!strcmp(word, function)) code = (int)number;
        } else {
            abort();
        }
    }
    fclose(file);
    return code;
}

#define ENTER_ALWAYS            \
    int code = enter(__func__); \
    if (code) return code;
#define ENTER     \
    ENTER_ALWAYS  \
    if (references < 1) return UNINITIALIZED;
#define DEVICE                                                          \
    ENTER                                                               \
    if ((intptr_t)handle < 1 || (intptr_t)handle > n_devices) return INVALID_ARGUMENT; \
    device_t *device = &devices[(intptr_t)handle - 1];

static int give(device_t *device, void **handle) {
    *handle = (void *)(intptr_t)(device - devices + 1);
    return SUCCESS;
}

static int copy(char *to, unsigned size, const char *from) {
    if (strlen(from) >= size) return INSUFFICIENT_SIZE;
    strcpy(to, from);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    ENTER_ALWAYS
    references++;
    return flags ? INVALID_ARGUMENT : SUCCESS;
}

int nvmlShutdown(void) {
    ENTER
    references--;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    return code == 26 ? "Deprecated" : "Unknown code";
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    ENTER
    *count = 0;
    for (int i = 0; i < n_devices; i++) *count += !devices[i].parent[0];
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    ENTER
    for (int i = 0; i < n_devices; i++)
        if (!devices[i].parent[0] && index-- == 0)
            /* A name that begins so is that of a GPU which a cgroup keeps from this process. */
            return strncmp(devices[i].name, "forbidden", 9) ? give(&devices[i], handle) : NO_PERMISSION;
    return INVALID_ARGUMENT;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    ENTER
    device_t *device = by_uuid(uuid);
    return device ? give(device, handle) : NOT_FOUND;
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size) {
    DEVICE
    return copy(uuid, size, device->uuid);
}

int nvmlDeviceGetName(void *handle, char *name, unsigned size) {
    DEVICE
    return copy(name, size, device->name);
}

int nvmlDeviceGetPciInfo_v3(void *handle, void *info) {
    struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } *pci = info;
    DEVICE
    if (device->parent[0]) return NOT_SUPPORTED;
    memset(pci, 0, sizeof *pci);
    return copy(pci->bus_id, sizeof pci->bus_id, device->bus_id);
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    DEVICE
    if (device->mig_mode < 0) return NOT_SUPPORTED;
    *current = *pending = device->mig_mode;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) {
    DEVICE
    (void)device;
    *count = 7;
    return SUCCESS;
}

/* The first place is empty, as after an instance was destroyed. */
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **mig) {
    DEVICE
    if (index == 0) return NOT_FOUND;
    for (int i = 0; i < n_devices; i++)
        if (!strcmp(devices[i].parent, device->uuid) && --index == 0) return give(&devices[i], mig);
    return NOT_FOUND;
}

int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *id) {
    DEVICE
    *id = device->gpu_instance;
    return SUCCESS;
}

int nvmlDeviceGetComputeInstanceId(void *handle, unsigned *id) {
    DEVICE
    *id = device->compute_instance;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *handle, void *info) {
    struct { bytes_t total, free, used; } *memory = info;
    DEVICE
    if (!device->has_memory) return NOT_SUPPORTED;
    memory->total = device->total, memory->free = device->free, memory->used = device->used + device->reserved;
    return SUCCESS;
}

static int list(const char *kind, device_t *device, unsigned *count, process_info_t *infos) {
    unsigned found = 0, room = *count;
    for (int i = 0; i < n_processes; i++) {
        process_t *p = &processes[i];
        if (strcmp(p->uuid, device->uuid) || strcmp(p->kind, kind)) continue;
        if (!strcmp(p->when, "once") && lists_given) continue;
        if (infos && found < room) infos[found] = (process_info_t){p->pid, p->used, UINT32_MAX, UINT32_MAX};
        found++;
    }
    *count = found;
    if (found && (!infos || found > room)) return INSUFFICIENT_SIZE;
    if (infos) lists_given++;
    return SUCCESS;
}

#ifdef OLD
#define LIST(kind) nvmlDeviceGet##kind##RunningProcesses_v2
#else
#define LIST(kind) nvmlDeviceGet##kind##RunningProcesses_v3

int nvmlDeviceGetMemoryInfo_v2(void *handle, void *info) {
    struct { unsigned version; bytes_t total, reserved, free, used; } *memory = info;
    DEVICE
    if (!device->has_memory) return NOT_SUPPORTED;
    if (memory->version != (sizeof *memory | 2 << 24)) return 25;
    memory->total = device->total, memory->reserved = device->reserved;
    memory->free = device->free, memory->used = device->used;
    return SUCCESS;
}
#endif

int LIST(Compute)(void *handle, unsigned *count, process_info_t *infos) {
    DEVICE
    return list("Compute", device, count, infos);
}

int LIST(Graphics)(void *handle, unsigned *count, process_info_t *infos) {
    DEVICE
    return list("Graphics", device, count, infos);
}
