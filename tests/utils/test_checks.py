"""The checks of arguments, and the wording of messages about unknown names and long lists."""

import numpy as np
import pytest

from getam.utils.checks import check_known, check_positive, check_whole, shortened, suggestion


def test_suggestion():
    assert suggestion("vla", ["train", "val"]) == "did you mean val?"
    assert suggestion("unicorn", ["train", "val"]) == "known are train, val"
    assert suggestion("unicorn", (name for name in ("train", "val"))) == "known are train, val"
    message = suggestion("unicorn", [f"class {i}" for i in range(1000)])
    assert message.startswith("known are class 0, class 1, ")
    assert message.endswith(", and 970 more")


def test_check_known():
    check_known("tables", "val", ["train", "val"])
    with pytest.raises(ValueError, match=r"^tables: there is no 'vla'; did you mean val\?$"):
        check_known("tables", "vla", ["train", "val"])


def test_shortened():
    assert shortened(list("abcde")) == "a, b, c, d, e"
    assert shortened(list("abcdefg")) == "a, b, c, d, e, and 2 more"
    assert shortened(list("abc"), 2, " | ") == "a | b | and 1 more"
    assert shortened([]) == ""


@pytest.mark.parametrize("number", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_of_numpy(number):
    check_whole(1, argument=number)
    check_positive(argument=number)
    with pytest.raises(ValueError, match="argument: expected a whole number from 4"):
        check_whole(4, argument=number)


@pytest.mark.parametrize("number", [2.5, np.float32(2.5), np.float64(2.5)])
def test_numbers_of_numpy(number):
    check_positive(argument=number)
    with pytest.raises(ValueError, match="argument: expected a whole number"):
        check_whole(argument=number)
