"""What the package's own code must never do, looked for in its source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import stream_vl_ros
from stream_vl_ros.ros.parameters import PARAMETERS
from stream_vl_ros.web import options

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path
    for folder in ("stream_vl_ros", "launch", "examples", "training", "scripts")
    for path in (ROOT / folder).rglob("*.py")
)
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jsonpickle"}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {
    *(("os", "system"), ("os", "popen"), ("torch", "load"), ("torch", "save"), ("yaml", "load"), ("yaml", "load_all")),
    *(("yaml", "unsafe_load"), ("yaml", "full_load"), ("tempfile", "mktemp"), ("subprocess", "getoutput")),
    *(("np", "load"), ("numpy", "load")),
}


def faults(source: str) -> list[str]:
    """Line and words for everything that is forbidden."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        found += [f"{node.lineno}: imports {n}" for n in names if n.split(".")[0] in PICKLES]
        if isinstance(node, ast.Call):
            found += [f"{node.lineno}: {fault}" for fault in call_faults(node)]
    return found


def call_faults(call: ast.Call) -> list[str]:
    found = []
    function = call.func
    if isinstance(function, ast.Name) and function.id in CALLS:
        found.append(f"calls {function.id}")
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        name = function.value.id, function.attr
        found += [f"calls {'.'.join(name)}"] if name in METHODS else []
    keywords = {k.arg: k.value for k in call.keywords}

    def is_literal(name: str, value: bool) -> bool:
        given = keywords.get(name)
        return isinstance(given, ast.Constant) and given.value is value

    if "shell" in keywords and not is_literal("shell", False):
        found.append("starts a shell")
    if "weights_only" in keywords and not is_literal("weights_only", True):
        found.append("unpickles")
    if "allow_pickle" in keywords and not is_literal("allow_pickle", False):
        found.append("unpickles")
    loads = isinstance(function, ast.Attribute) and function.attr == "from_pretrained"
    if (loads or "trust_remote_code" in keywords) and not is_literal("trust_remote_code", False):
        found.append("may run code of a checkpoint")
    if loads and "Model" in ast.unparse(function) and not is_literal("use_safetensors", True):
        found.append("may load pickled weights")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_pickle_no_eval_no_shell_no_code_of_others(path):
    assert not faults(path.read_text())


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from pickle import loads", "import torch, dill", "from marshal import loads"),
        *("eval(x)", "exec('a')", "os.system('a')", "subprocess.run('a', shell=True)", "subprocess.run(a, shell=b)"),
        *("torch.load(f)", "torch.load(f, weights_only=True)", "yaml.load(f, Loader=x)", "np.load(f)"),
        *("f(weights_only=False)", "f(allow_pickle=True)"),
        *("AutoProcessor.from_pretrained(f)", "AutoProcessor.from_pretrained(f, trust_remote_code=x)"),
        *("AutoProcessor.from_pretrained(f, trust_remote_code=True)", "load(**k, trust_remote_code=settings.trust)"),
        "t.AutoModel.from_pretrained(f, trust_remote_code=False)",
    ],
)
def test_it_would_be_found(source):
    assert faults(source)


@pytest.mark.parametrize(
    "source",
    [
        *("model.eval()", "re.compile(x)", "yaml.safe_load(f)", "subprocess.run([a])"),
        "t.AutoModel.from_pretrained(f, trust_remote_code=False, use_safetensors=True)",
    ],
)
def test_what_is_harmless_is_not(source):
    assert not faults(source)


def test_nothing_switches_it_on():
    """No parameter, option or variable of the environment is about trusting code."""
    names = [p.name for p in PARAMETERS] + [p.name for p in options.PARAMETERS]
    assert len(names) > 30
    assert not [n for n in names if any(word in n for word in ("trust", "remote_code", "pickle", "unsafe"))]
    package = Path(stream_vl_ros.__file__).parent
    for path in package.rglob("*.py"):
        for line in path.read_text().splitlines():
            assert not ("environ" in line and "TRUST" in line.upper()), path


@pytest.mark.parametrize("folder", ["ros", "web", "bag", "engine"])
def test_pillow_is_never_left_to_choose_a_format(folder):
    """It would try dozens, some of which start programs; what others send is JPEG or PNG, told by its first bytes."""
    for path in (ROOT / "stream_vl_ros" / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "open":
                assert "Image" not in ast.unparse(node.func), f"{path}:{node.lineno}"
