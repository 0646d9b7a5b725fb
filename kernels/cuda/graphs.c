#include "kernels/cuda/graphs.h"

#include <cuda_runtime.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cuda/exchange.h"

/* Everything that decides which kernels a decode step launches, and on which grids. All else is in the plan, on the
 * device. */
struct graph_key {
	uint32_t rows, splits;
	bool row_steering, norms;
};

struct graph {
	struct graph_key key;
	cudaGraphExec_t exec; /* NULL: the bucket was met once */
	uint32_t n_marks;     /* of several ranks (exchange.h) */
};

struct tt_cuda_graphs {
	struct graph *list;
	size_t n, capacity;
	size_t recording; /* 1 + index of the graph that is being captured, or 0 */
};

/* Row counts for which graphs are made: few enough to be captured soon, close enough that little runs for nothing.
 * Products take 8 rows as cheaply as 1, so below that only attention gains. */
static uint32_t bucket_of(uint32_t n)
{
	static const uint32_t sizes[] = {1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		if (n <= sizes[i])
			return sizes[i];
	return (n + 127) / 128 * 128;
}

/* True for one token a sequence, no gates, no pools, and nothing that the host sizes for this step alone. */
static bool is_decode(const struct tt_cuda *cuda, const struct tt_step_plan *step)
{
	return step->n_tokens == step->n_seqs && step->n_samples > 0 && step->n_samples <= step->n_tokens &&
	       step->n_decisions == 0 && step->n_pools == 0 && step->n_captures <= cuda->limits.n_inline_captures;
}

/* Ends a capture that an error cut short. */
static void abandon(struct tt_cuda *cuda)
{
	cudaGraph_t graph = NULL;
	if (!cuda->graphs->recording)
		return;
	cuda->graphs->recording = 0;
	tt_cuda_ranks_captured(cuda); /* its marks are none of the next graph's */
	if (cudaStreamEndCapture(cuda->stream, &graph) == cudaSuccess)
		cudaGraphDestroy(graph);
	cudaGetLastError(); /* clears the error of an invalidated capture, which was reported already */
}

static int find(
	struct tt_cuda_graphs *g, const struct graph_key *key, bool *is_new, size_t *index, struct tt_error *err)
{
	*is_new = false;
	for (*index = 0; *index < g->n; ++*index) {
		const struct graph_key *k = &g->list[*index].key;
		if (k->rows == key->rows && k->splits == key->splits && k->row_steering == key->row_steering &&
			k->norms == key->norms)
			return TT_OK;
	}
	*is_new = true;
	TT_TRY(tt_grow(&g->list, &g->capacity, g->n + 1, sizeof *g->list, err));
	g->list[g->n++] = (struct graph){.key = *key};
	return TT_OK;
}

static int launch(struct tt_cuda *cuda, const struct graph *graph, struct tt_error *err)
{
	TT_TRY(tt_cuda_ranks_enter(cuda, err));
	int status = tt_graph_launch(&cuda->counters, graph->exec, cuda->stream, err);
	tt_cuda_ranks_leave(cuda, status == TT_OK ? graph->n_marks : 0);
	return status;
}

int tt_cuda_graphs_begin(struct tt_cuda *cuda, const struct tt_step_plan *step, bool *recorded, struct tt_error *err)
{
	bool is_new;
	size_t index;
	*recorded = false;
	if (!cuda->graphs)
		TT_TRY(tt_alloc(&cuda->graphs, 1, sizeof *cuda->graphs, err));
	abandon(cuda);
	if (!is_decode(cuda, step))
		return TT_OK;
	uint32_t rows = bucket_of(step->n_tokens), most = cuda->limits.max_seqs;
	const struct graph_key key = {
		rows < most ? rows : most, cuda->max_splits, cuda->row_steering, (step->wants & TT_WANT_NORMS) != 0};
	cuda->grid_tokens = cuda->grid_samples = key.rows;
	TT_TRY(find(cuda->graphs, &key, &is_new, &index, err));
	if (is_new)
		return TT_OK;
	if (cuda->graphs->list[index].exec) {
		*recorded = true;
		return launch(cuda, &cuda->graphs->list[index], err);
	}
	TT_TRY_CUDA(cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal), "capturing a step");
	cuda->graphs->recording = index + 1;
	return TT_OK;
}

int tt_cuda_graphs_end(struct tt_cuda *cuda, struct tt_error *err)
{
	cudaGraph_t captured = NULL;
	cudaGraphExec_t exec = NULL;
	if (!cuda->graphs->recording)
		return TT_OK;
	struct graph *graph = &cuda->graphs->list[cuda->graphs->recording - 1];
	cuda->graphs->recording = 0;
	graph->n_marks = tt_cuda_ranks_captured(cuda);
	TT_TRY_CUDA(cudaStreamEndCapture(cuda->stream, &captured), "capturing a step");
	cudaError_t error = cudaGraphInstantiate(&exec, captured, 0);
	cudaGraphDestroy(captured);
	TT_TRY_CUDA(error, "making a step's graph");
	graph->exec = exec;
	cuda->counters.graphs++;
	return launch(cuda, graph, err);
}

bool tt_cuda_graphs_capturing(const struct tt_cuda *cuda)
{
	return cuda->graphs && cuda->graphs->recording;
}

void tt_cuda_graphs_drop(struct tt_cuda *cuda)
{
	struct tt_cuda_graphs *g = cuda->graphs;
	/* nothing grows while a graph is captured: the previous step of the bucket made the room */
	if (!g || g->recording)
		return;
	for (size_t i = 0; i < g->n; i++)
		if (g->list[i].exec)
			cudaGraphExecDestroy(g->list[i].exec);
	g->n = 0;
}

void tt_cuda_graphs_close(struct tt_cuda *cuda)
{
	if (!cuda->graphs)
		return;
	abandon(cuda);
	tt_cuda_graphs_drop(cuda);
	free(cuda->graphs->list);
	free(cuda->graphs);
	cuda->graphs = NULL;
}
