"""Has Accelerate take the device maps of tests/partition/export_test.cc.

    python make.py CONFIGS

CONFIGS is a folder of Hugging Face configs. For every MODEL.py beside this script (the output of
PlanPythonDeviceMap, as the test prints it), the model is built without memory from
CONFIGS/MODEL/config.json, Accelerate checks that every weight of it has a device, and MODEL.json gets
the bytes of each device as Accelerate counts them. Made with accelerate 1.15, transformers 5.23.
"""

import importlib.util
import json
import pathlib
import sys

import torch
from accelerate.utils import check_device_map, compute_module_sizes, get_max_memory
from transformers import AutoConfig, AutoModelForCausalLM


def device_of(name, device_map):
    while name:
        if name in device_map:
            return device_map[name]
        name = name.rpartition(".")[0]
    raise KeyError(name)


def main():
    here = pathlib.Path(__file__).parent
    configs = pathlib.Path(sys.argv[1])
    for plan in sorted(here.glob("*.py")):
        if plan.name == "make.py":
            continue
        spec = importlib.util.spec_from_file_location("plan", plan)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = AutoConfig.from_pretrained(configs / plan.stem)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        check_device_map(model, module.device_map)
        get_max_memory(module.max_memory)
        sizes = compute_module_sizes(model)
        sizes = sizes[0] if isinstance(sizes, tuple) else sizes
        total = {}
        for name, parameter in model.named_parameters():
            device = str(device_of(name, module.device_map))
            total[device] = total.get(device, 0) + sizes[name]
        plan.with_suffix(".json").write_text(json.dumps(total) + "\n")
        print(plan.stem, total)


if __name__ == "__main__":
    main()
