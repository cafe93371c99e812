"""The one grammar: what is written is read, in any order, and what is broken is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avbench.errors import RequestError
from avbench.grammar import Variant, canonical, parse_settings, parse_variants, quote

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,8}", fullmatch=True)
options = st.dictionaries(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True), st.text(max_size=12), max_size=4
)
variants = st.builds(canonical, names, options)


def one(text: str) -> Variant:
    (found,) = parse_variants(text, "--method")
    return found


@settings(max_examples=200, deadline=None)
@given(variants)
def test_a_label_is_read_back_as_the_variant_it_names(variant: Variant) -> None:
    assert one(variant.label) == variant


@settings(max_examples=100, deadline=None)
@given(st.lists(variants, min_size=1, max_size=4, unique_by=lambda v: v.label))
def test_a_list_of_labels_is_read_back(found: list[Variant]) -> None:
    assert list(parse_variants(", ".join(v.label for v in found), "--method")) == found


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20))
def test_quoting_round_trips_any_text(value: str) -> None:
    assert one(f"dm[x={quote(value)}]").given == {"x": value}


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='ab1[]=,"\\ .:-_', max_size=14))
def test_any_text_is_read_or_refused_never_something_else(text: str) -> None:
    try:
        found = parse_variants(text, "--method")
    except RequestError:
        return
    assert parse_variants(",".join(v.label for v in found), "--method") == found


def test_the_order_of_options_does_not_matter() -> None:
    texts = [f"dm[{','.join(order)}]" for order in itertools.permutations(["lr=4.2", "init=herding", "factor=2"])]
    assert len({one(text) for text in texts}) == 1
    assert one(texts[0]).label == "dm[factor=2,init=herding,lr=4.2]"


def test_space_does_not_matter() -> None:
    assert parse_variants(" dm [ lr = 4.2 , init=herding ] , avdd ", "x") == parse_variants(
        "dm[init=herding,lr=4.2],avdd", "x"
    )


def test_names() -> None:
    assert [v.name for v in parse_variants("dm,timm/resnet18.a1_in1k,other-dist:dm,ab_c", "--arch")] == [
        "dm",
        "timm/resnet18.a1_in1k",
        "other-dist:dm",
        "ab_c",
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('dm[x="a,b"]', "a,b"),
        ('dm[x="[]"]', "[]"),
        (r'dm[x="say \"hi\""]', 'say "hi"'),
        (r'dm[x="back\\slash"]', r"back\slash"),
        ('dm[x=""]', ""),
        ("dm[x=color_crop]", "color_crop"),
        ("dm[x=-1e-3]", "-1e-3"),
        ("dm[x=λ]", "λ"),
    ],
)
def test_values(text: str, value: str) -> None:
    assert one(text).given == {"x": value}


def test_empty_brackets_are_no_options() -> None:
    assert one("dm[]") == one("dm") == Variant("dm")
    assert one("dm[]").label == "dm"


@pytest.mark.parametrize(
    "text",
    [
        "dm[", "dm]", "dm[lr", "dm[lr=", "dm[lr=]", "dm[=4]", "dm[lr=4.2", "dm[lr=4.2]]", "dm[[lr=1]]",
        "dm[lr=4,]", "dm[,lr=4]", "dm[lr=4 init=herding]", "dm[lr=a=b]", 'dm[x="open]', 'dm[x="a"b]',
        "dm,", ",dm", "dm,,avdd", "dm avdd", "dm[lr=1]avdd", "-dm", "dm[1x=2]", "@", "[lr=1]",
    ],
)  # fmt: skip
def test_broken_text_is_refused_with_flag_text_and_position(text: str) -> None:
    with pytest.raises(RequestError) as error:
        parse_variants(text, "--method")
    assert "--method" in str(error.value) and "position" in str(error.value) and "NAME" in str(error.value)


@pytest.mark.parametrize("text", ["", "   "])
def test_nothing_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="--method is empty"):
        parse_variants(text, "--method")


def test_an_option_given_twice_is_refused() -> None:
    with pytest.raises(RequestError, match="option 'lr' is given twice"):
        parse_variants("dm[lr=1,init=random,lr=1]", "--method")


@pytest.mark.parametrize("text", ["dm,dm", "dm[a=1,b=2],avdd,dm[b=2,a=1]", "dm,dm[]"])
def test_the_same_variant_twice_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="listed more than once"):
        parse_variants(text, "--method")


def test_two_variants_of_one_plugin_are_two() -> None:
    assert len(parse_variants("dm,dm[lr=4.2],dm[lr=8.2]", "--method")) == 3


def test_settings() -> None:
    entries = ["dm.lr=4.2", "dm.init=herding", "avdd.augment=a=b", 'timm/resnet18.a1.drop="0.1"']
    assert parse_settings(entries) == {
        "dm": {"lr": "4.2", "init": "herding"},
        "avdd": {"augment": "a=b"},
        "timm/resnet18.a1": {"drop": "0.1"},
    }
    assert parse_settings(["dm.lr=1", "dm.lr=2"]) == {"dm": {"lr": "2"}}, "the last one counts"


@pytest.mark.parametrize("entry", ["dm.lr", "lr=4", ".lr=4", "dm.=4", "dm.lr=", "", "="])
def test_broken_settings_are_refused(entry: str) -> None:
    with pytest.raises(RequestError, match=r"expected PLUGIN\.OPTION=VALUE"):
        parse_settings([entry])
