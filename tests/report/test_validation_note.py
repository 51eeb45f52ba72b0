"""What a report says of held-out losses: their course, the least, and what they stopped."""

from dart_jax.report import figures
from dart_jax.report.run_sections import validation_note

EPOCHS = [(0.0, 3.0), (1.0, 2.0), (2.0, 2.5)]
STEPS = [(0.0, 3.0), (0.5, 2.25), (1.0, 2.0), (1.5, 2.5)]


def words(validation, **sft):
    return "".join(str(part) for part in validation_note(validation, sft).pieces)


def test_after_whole_epochs_each_loss_is_said():
    said = words(EPOCHS)
    assert "3.000 before training, then by epoch 2.000, 2.500; least after epoch 1 (2.000)" in said
    assert "Early stopping" not in said


def test_between_epochs_the_last_and_the_least_are_said():
    said = words(STEPS, early_stopping=None)
    assert "2.500 at the last of 3 later measurements; least after epoch 1 (2.000)" in said


def test_an_early_stop_names_where_it_ended_and_whose_adapter_it_kept():
    said = words(STEPS, early_stopping=1, epochs=3)
    assert "training ended after 1.5 of at most 3 epochs, and M_int is the adapter of the" in said


def test_the_curve_of_the_held_out_rows_ends_at_the_last_step():
    losses = {"distill": [(step, 3.0 - 0.1 * step) for step in range(1, 7)], "repair": []}
    panel = figures.loss_curves(losses, STEPS).axes[0]
    trained, held_out = panel.lines
    assert list(held_out.get_xdata()) == [0, 2, 4, 6] and max(trained.get_xdata()) == 6
    assert list(held_out.get_ydata()) == [loss for _, loss in STEPS]
    assert len(figures.loss_curves(losses).axes[0].lines) == 1
