"""Makes `lm_eval --model trimtab` known. lm-eval has a table of models and no way for packages to add to it, so this,
which trimtab_plugins.pth starts with the interpreter, waits for the module with the table to be imported. It costs
nothing until then and does nothing where that module looks otherwise; `import trimtab.lm_eval_model` is another way."""

import sys

TABLE = "lm_eval.models"
MODEL = "trimtab.lm_eval_model:TrimtabLM"


def add_to_table(module):
    try:
        module.MODEL_MAPPING.setdefault("trimtab", MODEL)
        module._register_all_models()
    except AttributeError:
        pass


class Finder:
    """Of the module with the table: what Python finds for it, with our line in the table once it has run."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != TABLE:
            return None
        sys.meta_path.remove(cls)
        import importlib.util

        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_add(module):
            execute(module)
            add_to_table(module)

        spec.loader.exec_module = execute_and_add
        return spec


def wait():
    if TABLE in sys.modules:
        add_to_table(sys.modules[TABLE])
    else:
        sys.meta_path.insert(0, Finder)
