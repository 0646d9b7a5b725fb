/* What requests are read with, as it is at one moment: the policies that they may name, the default stack, what is
 * mandatory. A request keeps the one that it was admitted with until it ends, so a label that moves meanwhile changes
 * nothing for it. */
#ifndef RUNTIME_SERVE_CATALOG_H
#define RUNTIME_SERVE_CATALOG_H

#include "controller/govern/in_force.h"
#include "controller/govern/label.h"
#include "runtime/openai/request_body.h"
#include "runtime/serve/metrics.h"

/* A policy on the engine, under a name and a label. Of the list of them the loop is the owner, but while the governor
 * works it only reads it. */
struct tt_loaded {
	struct tt_named_policy named; /* whose name and label are those below */
	char name[TT_MAX_NAME + 1], label[TT_MAX_NAME + 1];
	struct tt_policy_metrics metrics;
	uint32_t n_users; /* catalogs */
	/* The work's: steering by it was ended, but that could not be written; it is to end; the engine knows. */
	bool holds, ends, ended;
	struct tt_loaded *next;
};

struct tt_catalog {
	struct tt_api_context context; /* what bodies are read with, but for what differs between them */
	struct tt_named_policies policies;
	struct tt_loaded **loaded; // [policies.n]
	struct tt_keys keys;       /* the store's */
	bool has_keys;             /* the store has or had one, so requests need one */
	bool is_late;              /* a version could not be loaded, but may be later */
	bool is_broken;            /* what steers every request cannot be loaded: no request is answered */
	uint32_t n_users;          /* jobs, and the server for the one in force */
	/* SHA-256 over the policies, and over what steers where a body says nothing. Replicas of one service have the
	 * same. */
	char set[65];
};

struct tt_server;

/* A catalog of the files of --policy, which are loaded and become the server's. */
int tt_catalog_of_files(struct tt_catalog **out, struct tt_server *server, struct tt_error *err);
/* One of what the store says. Policies that the server has not loaded are, and are added to *loaded. What cannot be
 * loaded is left out, with a note; old (or NULL) says what to go on with. The keys become the catalog's. */
int tt_catalog_of_store(struct tt_catalog **out, struct tt_loaded **loaded, struct tt_server *server,
	struct tt_store *store, struct tt_in_force *force, const struct tt_catalog *old, struct tt_error *err);
/* Loads a version and adds it to the engine, under this name and label. */
int tt_loaded_make(struct tt_loaded **out, struct tt_server *server, struct tt_store *store, const char *policy,
	const char *label, const char *sha256, struct tt_error *err);
/* Removes it from the engine, which may wait for a step, and frees it. */
void tt_loaded_free(struct tt_loaded *loaded, struct tt_server *server);
/* On the loop: there is one user more, or less; the last one frees it. */
struct tt_catalog *tt_catalog_take(struct tt_catalog *catalog);
void tt_catalog_give(struct tt_catalog *catalog); /* NULL is fine */

#endif
