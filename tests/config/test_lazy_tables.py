from __future__ import annotations

import subprocess
import sys

import pytest

from nlpcli.config.lazy_tables import LazyTable
from nlpcli.errors import NlpcliError

TABLE = LazyTable("shape", {"circle": "math:pi", "line": "math:inf", "nowhere": "nlpcli.no_such_module:x"})


def test_names_are_listed_in_order_without_importing_anything():
    assert TABLE.names() == list(TABLE) == ["circle", "line", "nowhere"]
    assert len(TABLE) == 3
    assert "circle" in TABLE
    assert "square" not in TABLE


def test_an_entry_is_imported_when_it_is_looked_up():
    assert TABLE.load("circle") == pytest.approx(3.14159, abs=1e-5)
    with pytest.raises(ModuleNotFoundError):
        TABLE.load("nowhere")


@pytest.mark.parametrize("call", [TABLE.load, TABLE.check])
def test_a_wrong_name_is_answered_with_the_nearest_or_with_all(call):
    with pytest.raises(NlpcliError, match=r"^unknown shape 'circel'$") as caught:
        call("circel")
    assert caught.value.hint == "did you mean 'circle'?"
    with pytest.raises(NlpcliError) as caught:
        call("xyz")
    assert caught.value.hint == "choose one of: circle, line, nowhere"


def test_a_right_name_is_given_back():
    assert TABLE.check("line") == "line"


def test_the_table_itself_is_light(environment):
    probe = (
        "import sys, nlpcli.config.lazy_tables; assert not {'torch', 'numpy', 'pydantic', 'yaml'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", probe], env=environment, check=True)
