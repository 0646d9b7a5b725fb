/* llama.cpp with a control vector, for scripts/measure/check_control_vectors.py: its own loader and its own place
 * to add it. Prints the ids of a greedy continuation on one line.
 *   llama_control_vector MODEL VECTOR SCALE FIRST LAST N ID...     VECTOR - for none */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "common.h"
#include "llama.h"

static int steer(llama_context *context, const char *path, float scale, int first, int last)
{
	std::vector<common_control_vector_load_info> infos{{scale, path}};
	common_control_vector_data data = common_control_vector_load(infos);
	if (data.n_embd == -1)
		return 1;
	return llama_set_adapter_cvec(context, data.data.data(), data.data.size(), data.n_embd, first, last);
}

int main(int argc, char **argv)
{
	if (argc < 8)
		return 2;
	llama_backend_init();
	llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
	llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
	llama_context_params params = llama_context_default_params();
	params.n_ctx = 256;
	params.type_k = params.type_v = GGML_TYPE_F32;
	params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
	llama_context *context = model ? llama_init_from_model(model, params) : nullptr;
	if (!context || (std::strcmp(argv[2], "-") &&
				steer(context, argv[2], std::atof(argv[3]), std::atoi(argv[4]), std::atoi(argv[5]))))
		return 1;
	std::vector<llama_token> ids;
	for (int i = 7; i < argc; i++)
		ids.push_back(std::atoi(argv[i]));
	int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
	for (int n = std::atoi(argv[6]); n > 0; n--) {
		if (llama_decode(context, llama_batch_get_one(ids.data(), (int)ids.size())))
			return 1;
		const float *logits = llama_get_logits_ith(context, -1);
		llama_token best = 0;
		for (int i = 1; i < n_vocab; i++)
			best = logits[i] > logits[best] ? i : best;
		std::printf("%d ", best);
		ids.assign(1, best);
	}
	std::printf("\n");
	llama_free(context);
	llama_model_free(model);
	return 0;
}
