"""Which share of a compiled program's time is matrix products."""

import jax
import jax.numpy as jnp
import pytest

from analysis.benchmark.training._matmuls import (
    Event,
    matmul_share,
    operations,
    own_times,
)


def test_the_share_of_products_is_high_where_there_is_little_else_and_0_without():
    x = jnp.ones((400, 400))

    def share(function):
        compiled = jax.jit(function).lower(x).compile()
        text = compiled.as_text() or ""
        return matmul_share(lambda: jax.block_until_ready(compiled(x)), text)

    assert share(lambda x: jnp.tanh(x @ x @ x) @ x) > 0.5
    assert share(lambda x: jnp.sort(jnp.tanh(x), axis=0)) == 0


def test_a_trace_without_the_program_is_an_error():
    with pytest.raises(ValueError, match="the trace has none of it"):
        matmul_share(lambda: None, "")


def test_a_library_call_is_a_product_and_a_plain_one_is_not():
    found = operations(
        """ENTRY main {
          gemm.1 = (f32[2], s8[4]) custom-call(a), custom_call_target="__cublas$gemm"
          topk.2 = f32[2] custom-call(a), custom_call_target="TopK"
        }"""
    )
    assert found == {"gemm.1": True, "topk.2": False}


def test_a_fusion_is_a_product_if_its_own_computation_holds_one():
    found = operations("""
fused_one (p: f32[2]) -> f32[] {
  d = f32[] dot(p, p)
}
fused_two (p: f32[2]) -> f32[2] {
  a = f32[2] add(p, p)
}
ENTRY main (x: f32[2]) -> (f32[], f32[2]) {
  f.1 = f32[] fusion(x), kind=kLoop, calls=fused_one
  f.2 = f32[2] fusion(x), kind=kLoop, calls=fused_two
  ROOT %t.3 = (f32[], f32[2]) tuple(f.1, f.2)
}""")
    assert found == {"d": True, "a": False, "f.1": True, "f.2": False, "t.3": False}


def test_time_inside_a_nested_operation_counts_once_and_threads_do_not_mix():
    loop = [Event("loop", 0, 100), Event("dot", 10, 40), Event("inner", 50, 90)]
    nested = [*loop, Event("dot", 60, 70)]
    assert own_times(reversed(nested)) == {"loop": 30, "dot": 40, "inner": 30}
    assert sum(own_times(nested).values()) == 100
    apart = [Event("dot", 0, 5), Event("dot", 5, 9)]
    assert own_times(apart) == {"dot": 9}
