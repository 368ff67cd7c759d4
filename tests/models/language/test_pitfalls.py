"""Twenty ways in which a language model at an equilibrium goes wrong quietly, and the test that
guards each.

1   The future reaches the past, by a bit, in some state on the way or after training.
    tests/models/language/test_leak.py::test_no_earlier_state_or_logit_changes_by_a_bit
2   A gradient that is not the adjoint; plain centered EqProp on a directed model.
    tests/models/language/test_gradients.py::test_the_limit_estimator_is_the_adjoint_for_every_parameter
    tests/models/language/test_gradients.py::test_the_recommended_estimator_is_off_by_the_square_of_beta
    tests/models/language/test_gradients.py::test_plain_centered_and_response_are_wrong_on_directed_models_at_every_beta
3   A kink in the loop, and with it an error that does not fall with the square of beta.
    tests/models/language/test_gradients.py::test_a_kink_in_the_loop_loses_the_square_of_beta
4   The sign of J^T - J; the Jacobian of the step in the place of the force's.
    tests/models/language/test_gradients.py::test_a_wrong_sign_of_the_correction_is_seen
    tests/models/language/test_gradients.py::test_the_jacobian_of_the_step_in_place_of_the_force_s_is_seen
5   A softmax over nothing: the first token has no past.
    tests/models/language/test_formulas.py::test_a_token_without_a_past_gets_nothing_and_no_row_is_lost
6   A bias that is hoisted out of the loop, and out of the gradient.
    tests/models/language/test_formulas.py::test_the_bias_that_is_hoisted_out_of_the_loop_is_trained
    tests/models/language/test_formulas.py::test_the_table_is_the_bias_of_the_distance_and_its_gradient_counts_the_pairs
7   A bound that is restored every few steps and broken in between.
    tests/models/language/test_certificates.py::test_the_bound_is_below_one_after_every_step_at_any_learning_rate
    tests/models/language/test_certificates.py::test_the_bound_is_above_the_slope_of_a_token_s_own_step_everywhere
8   Logits that depend on how long one waits.
    tests/models/language/test_certificates.py::test_five_times_the_steps_give_the_same_logits_after_training
    tests/models/language/test_certificates.py::test_every_start_ends_in_one_state
9   A residual of the mean token: late ones settle last. A stop that looks ahead.
    tests/equilibrium/test_causal.py::test_the_residual_is_of_the_worst_token_and_late_tokens_settle_last
    tests/equilibrium/test_causal.py::test_every_token_stops_at_the_step_that_the_rule_says
    tests/models/language/test_leak.py::test_a_stop_that_waits_for_the_worst_token_would_leak
10  Tokens written one by one that are not those of the whole window.
    tests/models/language/test_generation.py::test_token_by_token_gives_what_the_whole_window_gives
11  A text that ends, or fails, at max_seq_len.
    tests/models/language/test_generation.py::test_it_goes_on_past_max_seq_len
12  A misspelt argument that is taken and forgotten.
    tests/models/language/test_inputs.py::test_misspelt_arguments_are_refused
13  Heads that do not divide the width, at some scale.
    tests/models/language/test_inputs.py::test_heads_that_do_not_divide_the_width_are_refused
    tests/models/language/test_budget.py::test_budgets_from_15_thousand_to_10_million_are_met
14  Dropout in the loop.
    tests/models/language/test_training.py::test_training_mode_changes_nothing
15  A norm without an epsilon, or with a small one inside the loop.
    tests/models/language/test_formulas.py::test_the_norm_outside_of_the_loop_has_an_epsilon
    tests/models/language/test_formulas.py::test_the_ball_norm_its_slope_and_its_entropy
16  A parameter that never moves.
    tests/models/language/test_training.py::test_every_parameter_moves_in_one_step
17  beta divided by the samples or the tokens.
    tests/models/language/test_gradients.py::test_beta_means_the_same_in_a_batch_of_twice_the_samples
    tests/models/language/test_gradients.py::test_beta_means_the_same_in_longer_sequences
    tests/models/language/test_gradients.py::test_unrolling_gives_the_mean_over_tokens_too
18  An energy of a model that has none.
    tests/models/language/test_certificates.py::test_a_directed_core_has_no_energy
    tests/models/language/test_certificates.py::test_the_slope_of_the_energy_within_a_token_is_the_force
19  A twin with other code, another schedule or other batches.
    tests/models/language/test_training.py::test_twins_see_the_same_batches_in_the_same_order
    tests/models/language/test_training.py::test_an_evaluation_is_the_mean_over_all_tokens_of_all_windows
20  Results that depend on the clock or on the state of a global generator.
    tests/models/language/test_inputs.py::test_a_seed_gives_the_same_weights_and_leaves_the_global_generator
    tests/models/language/test_training.py::test_a_fit_that_goes_on_is_the_fit_that_was_not_interrupted
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_every_pitfall_has_a_test_and_every_test_named_above_exists() -> None:
    assert __doc__ is not None
    sections = re.split(r"^(?=\d+ )", __doc__, flags=re.MULTILINE)[1:]
    assert [int(section.split()[0]) for section in sections] == list(range(1, 21))
    for section in sections:
        named = re.findall(r"(tests/\S+\.py)::(\w+)", section)
        assert named, section
        for path, test in named:
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (
                f"{path}::{test}"
            )
