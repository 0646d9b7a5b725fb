/* The models of `make models` against float32 PyTorch: ids, greedy tokens, the ten best logits after each. */
#include <unistd.h>

#include "real_model.h"

#define QWEN TT_MODEL_DIR "/Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf"
#define GEMMA TT_MODEL_DIR "/gemma-3-270m.Q4_K_M.gguf"

Test(models, qwen_continues_as_pytorch_does)
{
	if (access(QWEN, R_OK))
		cr_skip_test("no Qwen2.5-Coder-0.5B: run `make models`");
	check_real_model(QWEN, GOLDEN("models/qwen.json"), 4, TT_TEXT_SPECIAL);
}

Test(models, gemma_continues_as_pytorch_does)
{
	if (access(GEMMA, R_OK))
		cr_skip_test("no Gemma 3 270M: run `make models`");
	check_real_model(GEMMA, GOLDEN("models/gemma.json"), 4, TT_TEXT_BOS);
}
