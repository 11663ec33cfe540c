/*
 * Native stage plugins, version 1 of the interface.
 *
 * A native plugin is a shared library that exports one function, stagewright_native_v1. It runs in the engine's process
 * with all of its powers: permissions, memory limits and timeouts can't be enforced on it. A pipeline must request it with
 * `trust = "native"` and pin it by its digest. Each run counts as an effect beyond the machine: after a crash, a person
 * has to record the outcome of an interrupted one. A panic, an exception or a signal in it ends the engine.
 *
 * Texts are UTF-8 and not terminated. Those that the host passes in are valid until the call returns; those that a
 * plugin passes to the host are copied before the call returns. Later versions add members at the end of the structs;
 * `size` says which ones exist.
 */
#ifndef STAGEWRIGHT_NATIVE_H
#define STAGEWRIGHT_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct stagewright_text {
    const uint8_t *data; /* may be NULL when length is 0 */
    size_t length;
} stagewright_text;

/* Levels of a log message. */
enum { STAGEWRIGHT_TRACE = 0, STAGEWRIGHT_DEBUG = 1, STAGEWRIGHT_INFO = 2, STAGEWRIGHT_WARN = 3, STAGEWRIGHT_ERROR = 4 };

/* What `run` returns. */
enum {
    STAGEWRIGHT_SUCCEEDED = 0,
    STAGEWRIGHT_FAILED = 1,  /* it did its work, with a negative result */
    STAGEWRIGHT_ERRORED = 2, /* it could not do its work */
    STAGEWRIGHT_SKIPPED = 3  /* there was nothing to do */
};

/* What the host offers to `run`. Valid until `run` returns; may be called from any thread until then. */
typedef struct stagewright_host_v1 {
    uint32_t size;
    void *context; /* pass it to every function below */
    void (*log)(void *context, uint32_t level, stagewright_text message);
    /* `json` is any JSON value. Returns 0 on success, otherwise 1; the log then says why. */
    int32_t (*set_output)(void *context, stagewright_text name, stagewright_text json);
    /* 1 once cancellation was requested: return soon. */
    int32_t (*cancelled)(void *context);
    /* Why `run` is going to return something other than STAGEWRIGHT_SUCCEEDED. `help` may be empty. */
    void (*explain)(void *context, stagewright_text message, stagewright_text help);
} stagewright_host_v1;

typedef struct stagewright_plugin_v1 {
    uint32_t size;
    /* The manifest as JSON, as in a component's `describe`; valid for as long as the library is loaded. */
    stagewright_text (*describe)(void);
    /*
     * Does the work. `request` is a JSON object: pipeline, stage, run, attempt, rehearsal, environment, config (the
     * `with` table), needs (outputs by stage), env. May be called from several threads at a time.
     */
    int32_t (*run)(const stagewright_host_v1 *host, stagewright_text request);
} stagewright_plugin_v1;

/* The one export. The struct must live for as long as the library is loaded. */
const stagewright_plugin_v1 *stagewright_native_v1(void);

#ifdef __cplusplus
}
#endif

#endif
