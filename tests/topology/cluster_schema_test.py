#!/usr/bin/env python3
"""Every cluster file meets clusters/cluster.schema.json, and files that tprun refuses do not.

Also takes files: cluster_schema_test.py SOURCE_FOLDER [FILE...]. Exits with 77 (skipped) without the
Python packages jsonschema and yaml.
"""
import glob
import json
import os
import sys

try:
    import jsonschema
    import yaml
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

WRONG = [
    "{}",
    "hosts: []",
    "hosts: [{cpu: {cores: 4}}]",
    "hosts: [{cpu: {cores: 4, memory: lots}}]",
    "hosts: [{cpu: {cores: 4, memory: 8GiB, colour: red}}]",
    "hosts: [{cpu: {cores: 4, memory: 8GiB, bandwidth: 50}}]",
    "hosts: [{count: 20000, cpu: {cores: 4, memory: 8GiB}}]",
    "hosts: [{name: a/b, cpu: {cores: 4, memory: 8GiB}}]",
    "hosts: [{cpu: {cores: 4, memory: 8GiB}, gpus: [{nam: T4}]}]",
    "hosts: [{cpu: {cores: 4, memory: 8GiB}, gpus: [{name: T4, pcie: 9x16}]}]",
    "hosts: [{cpu: {cores: 4, memory: 8GiB}}]\nfabrics: [{bandwidth: 1GB/s, nic_bandwidth: 1GB/s}]",
    "hosts: [{cpu: {cores: 4, memory: 8GiB}}]\nlinks: [{a: cpu, b: 'cuda:0', kind: wire, bandwidth: 1GB/s}]",
]


class Loader(yaml.SafeLoader):
    """As tprun reads YAML: dates and times are texts."""


Loader.yaml_implicit_resolvers = {
    key: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def main():
    source = sys.argv[1]
    with open(os.path.join(source, "clusters", "cluster.schema.json")) as file:
        schema = json.load(file)
    validator = jsonschema.Draft7Validator(schema)
    files = sys.argv[2:] or [
        path
        for path in sorted(glob.glob(os.path.join(source, "clusters", "*.yaml")))
        if os.path.basename(path) not in ("gpus.yaml", "overheads.yaml")
    ]
    failures = 0
    for path in files:
        with open(path) as file:
            errors = list(validator.iter_errors(yaml.load(file, Loader)))
        for error in errors:
            print(f"{path}: {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}")
        failures += len(errors)
    for text in WRONG:
        if validator.is_valid(yaml.load(text, Loader)):
            print(f"taken, but wrong: {text}")
            failures += 1
    print(f"{len(files)} files, {len(WRONG)} wrong ones, {failures} failures")
    sys.exit(1 if failures else 0)


main()
