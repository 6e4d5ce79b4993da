import subprocess
import sys

import pytest
import torch

from getam.models.runtime import tf32_allowed

PRODUCTS = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)


@pytest.mark.parametrize(("precision", "expected"), [("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "tf32")])
def test_tf32_by_precision(precision, expected):
    before = [product.fp32_precision for product in PRODUCTS]
    with tf32_allowed(precision):
        assert [product.fp32_precision for product in PRODUCTS] == [expected] * 3
    assert [product.fp32_precision for product in PRODUCTS] == before


def test_errors_inside_restore_it_too():
    before = [product.fp32_precision for product in PRODUCTS]
    with pytest.raises(KeyError), tf32_allowed("float32"):
        raise KeyError
    assert [product.fp32_precision for product in PRODUCTS] == before


# torch has two ways of saying it, and raises an error where they are mixed; a process of its own has used one of them.
CALLERS = [
    "",
    "torch.backends.fp32_precision = 'tf32'",
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'; torch.backends.cudnn.conv.fp32_precision = 'ieee'",
    "torch.backends.cuda.matmul.allow_tf32 = True; torch.backends.cudnn.allow_tf32 = False",
    "torch.set_float32_matmul_precision('high')",
]


@pytest.mark.parametrize("caller", CALLERS)
def test_settings_of_the_caller(caller):
    code = f"""
import torch
from getam.models.runtime import tf32_allowed

def settings():
    found = [p.fp32_precision for p in (torch.backends, torch.backends.cuda.matmul, torch.backends.cudnn.conv)]
    for read in (lambda: torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision):
        try:
            found.append(read())
        except RuntimeError:
            found.append("torch refuses")
    return found

{caller}
before = settings()
for precision in ("float32", "tf32"):
    with tf32_allowed(precision):
        assert torch.backends.cuda.matmul.fp32_precision == {{"float32": "ieee", "tf32": "tf32"}}[precision]
    assert settings() == before, (settings(), before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
