/* A stand-in for NVIDIA's libcuda.so.1, for what its driver says of the order of its devices.
 *
 * FAKE_CUDA names a text file that is read anew at every call. Its first word is what cuInit returns; then come the
 * UUIDs of the devices by ordinal, with NVML's prefix. With -DOLD there is no cuDeviceGetUuid_v2.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 64
enum { SUCCESS, INVALID_VALUE, NOT_INITIALIZED = 3, INVALID_DEVICE = 101 };

static char uuids[MOST][96];
static int count, code, initialised;

static void enter(void) {
    const char *path = getenv("FAKE_CUDA");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file || fscanf(file, "%d", &code) != 1) abort();
    for (count = 0; count < MOST && fscanf(file, "%95s", uuids[count]) == 1;) count++;
    fclose(file);
}

int cuInit(unsigned flags) {
    enter();
    initialised = !code;
    return flags ? INVALID_VALUE : code;
}

int cuDeviceGet(int *device, int ordinal) {
    enter();
    if (!initialised) return NOT_INITIALIZED;
    if (ordinal < 0 || ordinal >= count) return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}

int cuDeviceGetUuid(unsigned char *raw, int device) {
    enter();
    if (!initialised) return NOT_INITIALIZED;
    if (device < 0 || device >= count) return INVALID_DEVICE;
    const char *hex = uuids[device] + strcspn(uuids[device], "-") + 1;
    for (int i = 0; i < 16; i++, hex += 2) {
        if (*hex == '-') hex++;
        if (sscanf(hex, "%2hhx", &raw[i]) != 1) abort();
    }
    return SUCCESS;
}

#ifndef OLD
int cuDeviceGetUuid_v2(unsigned char *raw, int device) {
    return cuDeviceGetUuid(raw, device);
}
#endif
