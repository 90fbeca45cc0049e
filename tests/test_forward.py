import pytest

from golflab.model.slots import SLOTS
from golflab.search.terminal.print_forward import LINES, forward
from golflab.spaces.presets import PRESETS, preset


def test_every_slot_of_the_forward_pass_has_its_line():
    written = {slot for slot, _, _ in LINES if slot} | {"logits"}
    assert written == {s.name for s in SLOTS.values() if s.stage == "model"} - {"init", "table_init"}


@pytest.mark.parametrize("name", PRESETS)
def test_the_techniques_of_a_preset_are_written_out(name):
    recipe = preset(name, "full")
    told = "\n".join(forward(recipe))
    model = [t for t in recipe.techniques if t.stage() == "model" and t.slot not in ("init", "table_init")]
    assert model
    assert all(f"{t.name}(" in told for t in model)


def test_empty_slots_leave_no_trace():
    bare = preset("baseline").without(*(t.name for t in preset("baseline").techniques if t.stage() == "model"))
    assert forward(bare)[:3] == ["x = table[ids]", "x = rms_norm(x)", "x0 = x"]
    assert forward(bare)[-1] == "logits = x·tableᵀ"
    assert "    x = x + u·W_down" in forward(bare)
