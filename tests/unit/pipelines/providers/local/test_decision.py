"""Sound pictures stay as they are, and damage as cameras make it is found and treated."""

import numpy as np
import pytest

from bench import quality, quality_sound
from bench import quality_damage as damage
from config.pipeline_rules import Defect
from pipelines.options import PromptOptions
from pipelines.prompts import corrections
from pipelines.providers.local import colour, exposure
from pipelines.providers.local.bars import picture_box
from pipelines.providers.local.comb import Curve, comb_of, is_coarse_jpeg
from pipelines.providers.local.kind import is_drawn, is_toned
from pipelines.providers.local.light import level_counts
from pipelines.providers.local.measure import share_of
from pipelines.providers.local.reading import analysis_of
from pipelines.providers.local.work import enhanced, findings_of

LIGHT_AND_COLOUR = {Defect.IS_DARK, Defect.IS_OVEREXPOSED, Defect.HAS_COLOR_CAST}


def photograph(name="coffee.png"):
    return damage.load(damage.bundled_folder() / name, 400)


def made(kind, name="coffee.png", seed=1):
    make = getattr(quality_sound, kind)
    return damage.rounded(255 * make(photograph(name) / 255, np.random.default_rng(seed)))


def found_in(pixels):
    data = damage.as_jpeg(pixels)
    result, analysis, treatments = quality.enhance(data, max(pixels.shape[:2]))
    return analysis, result, treatments


@pytest.mark.parametrize(
    "kind",
    [
        *("low_key", "stage_lights", "golden_hour", "sepia", "cyanotype", "high_key", "fog", "dusk", "underwater"),
        *("skyline", "moonlit_sea", "stars", "sunset", "snow", "interface", "chart", "page", "line_art"),
    ],
)
def test_picture_that_was_meant_so_keeps_its_light_and_colours(kind):
    pixels = made(kind)

    analysis, result, _ = found_in(pixels)

    assert not analysis.defects.found() & LIGHT_AND_COLOUR
    assert not analysis.cropping.is_cropping_needed
    assert damage.psnr(pixels, result) >= 30


@pytest.mark.parametrize("name", ["astronaut.png", "chelsea.png", "coffee.png", "motorcycle_right.png"])
@pytest.mark.parametrize("kind", ["grey_mist", "blue_haze", "flowers"])
@pytest.mark.parametrize("seed", [1, 2])
def test_picture_of_one_colour_has_no_white_that_tells_of_its_light(kind, name, seed):
    pixels = made(kind, name, seed)

    analysis, _, _ = found_in(pixels)

    assert not analysis.defects.found() & LIGHT_AND_COLOUR


def test_cast_of_a_photograph_is_borne_out_by_its_white():
    """The sibling of the last: the same rule lets casts of whole pictures pass."""
    for name in ("coffee.png", "motorcycle_right.png"):
        for hurt in ("tungsten", "strong blue"):
            analysis, _, _ = found_in(damage.CAMERA[hurt](photograph(name)))

            assert Defect.HAS_COLOR_CAST in analysis.defects.found()


@pytest.mark.parametrize("seed", [0, 3, 5, 6])
def test_interface_of_any_palette_keeps_every_colour(seed):
    pixels = made("interface", seed=seed)

    _, result, treatments = found_in(pixels)

    assert treatments == ()
    assert damage.psnr(pixels, result) >= 35


@pytest.mark.parametrize("name", ["coffee.png", "motorcycle_right.png"])
@pytest.mark.parametrize(
    ("hurt", "least_gain"), [("two stops under", 5.0), ("one stop under", 1.5), ("tungsten", 2.0), ("strong blue", 2.0)]
)
def test_damage_by_light_comes_out_better(name, hurt, least_gain):
    truth = photograph(name)

    seen = quality.outcome(hurt, name, truth, damage.as_jpeg(damage.CAMERA[hurt](truth)), is_sound=False)

    assert seen.gain >= least_gain


@pytest.mark.parametrize("name", ["astronaut.png", "chelsea.png", "coffee.png", "motorcycle_right.png", "rocket.jpg"])
@pytest.mark.parametrize("hurt", ["dark", "one stop under", "one stop over"])
@pytest.mark.parametrize("side_px", [200, 380])
def test_light_that_analysis_found_wrong_is_mended_in_a_smaller_result_too(name, hurt, side_px):
    data = damage.as_jpeg((damage.DAMAGES | damage.CAMERA)[hurt](photograph(name)), 97)
    analysis = analysis_of(findings_of(data, quality.LIMITS))

    result = enhanced(data, None, None, side_px, corrections(analysis, PromptOptions()), quality.LIMITS)

    is_wrong = bool(analysis.defects.found() & {Defect.IS_DARK, Defect.IS_OVEREXPOSED})
    assert any(said.startswith(("brightened", "light")) for said in result.treatments) == is_wrong


def test_comb_of_a_picture_too_large_to_be_measured_whole_is_seen():
    photo = np.tile(photograph("chelsea.png"), (8, 8, 1))
    data = damage.as_jpeg(damage.dark(photo, 2.2), 98)

    assert analysis_of(findings_of(data, quality.LIMITS)).measures["gamma"] == pytest.approx(2.2, rel=0.02)


@pytest.mark.parametrize("hurt", ["weak blue", "fluorescent", "moderate noise", "defocus", "motion", "one stop over"])
def test_damage_that_is_doubtful_comes_out_no_worse(hurt):
    truth = photograph("chelsea.png")

    seen = quality.outcome(hurt, "", truth, damage.as_jpeg(damage.CAMERA[hurt](truth)), is_sound=False)

    assert seen.gain >= -1


@pytest.mark.parametrize("gains", [(1.45, 1, 0.42), (0.42, 0.88, 1.9), (0.62, 1.25, 0.6), (1.5, 0.8, 1.4)])
def test_white_that_has_clipped_under_a_cast_stays_neutral(gains):
    scene = np.full((60, 90, 3), 120, np.uint8)
    scene[:, :30] = 252
    damaged = damage.lit(scene, gains)

    result = colour.balanced(damaged, (float(np.log(gains[0] / gains[1])), float(np.log(gains[2] / gains[1]))))

    assert np.ptp(result[30, 10].astype(int)) <= 4
    assert np.ptp(result[30, 60].astype(int)) <= 4


def test_exposure_undone_in_light_returns_the_middle_and_keeps_highlights_apart():
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(8, 0).repeat(3, 2)

    result = exposure.exposed(damage.lit(ramp, (0.5, 0.5, 0.5)), 2.0).astype(int)[4, :, 0]

    assert np.abs(result[30:200] - np.arange(30, 200)).max() <= 3
    assert result[255] > result[240] > result[220]


def test_highlights_of_an_overexposed_picture_stay_white():
    result = exposure.calmed(np.array([[[255, 255, 255], [120, 120, 120]]], np.uint8))

    assert result[0, 0].min() == 255
    assert result[0, 1].max() < 110


@pytest.mark.parametrize("gain", [1.25, 2.0, 3.0])
def test_grey_of_an_overexposed_picture_stays_grey_and_in_order(gain):
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2)

    result = exposure.calmed(ramp, gain)[0].astype(int)

    assert np.ptp(result, axis=1).max() == 0
    assert np.diff(result[:, 0]).min() >= 0
    assert result[255, 0] == 255


@pytest.mark.parametrize("scene", [(200, 180, 110), (110, 150, 175), (190, 130, 140), (120, 190, 110)])
def test_colour_that_clipped_in_one_channel_keeps_its_hue_when_light_is_lowered(scene):
    truth = np.full((2, 2, 3), scene, np.uint8)

    result = exposure.calmed(damage.lit(truth, (2.2, 2.2, 2.2)), 2.2)

    assert np.abs(result[0, 0].astype(int) - truth[0, 0]).max() <= 12


@pytest.mark.parametrize(
    ("name", "least_gain"), [("chelsea.png", 10.0), ("coffee.png", 9.0), ("motorcycle_right.png", 6.0)]
)
def test_surplus_of_light_that_is_known_is_undone(name, least_gain):
    truth = photograph(name)
    seen = damage.through_jpeg(damage.CAMERA["one stop over"](truth))

    gain = damage.psnr(truth, exposure.calmed(seen, 2.0)) - damage.psnr(truth, seen)

    assert gain >= least_gain


@pytest.mark.parametrize(("margin", "size"), [(90, 600), (140, 600), (200, 700)])
def test_margins_of_a_dark_screen_are_no_bars(margin, size):
    screen = np.full((400, size), 24, np.uint8)
    screen[60:340, margin : size - margin] = 38
    screen[80:320:12, margin + 8 : size - margin - 8 : 3] = 220
    screen[80:320, margin + 60 : margin + 90] = 24
    screen[150:300, margin : size - margin] = 24

    assert picture_box(screen) is None


@pytest.mark.parametrize("kind", ["black_sky", "black_table"])
@pytest.mark.parametrize("name", ["coffee.png", "motorcycle_right.png"])
def test_a_wide_black_part_without_a_twin_is_no_bar(kind, name):
    luma = (made(kind, name) @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)

    assert picture_box(luma) is None


def test_narrow_bar_without_a_twin_is_found():
    luma = np.full((300, 400), 120, np.uint8)
    luma[:20] = 1

    box = picture_box(luma)

    assert box is not None
    assert (box.y, box.height) == (20, 280)


def test_drawings_and_tones_are_known_by_their_colours():
    photo = photograph("chelsea.png")

    assert all(is_drawn(made(kind)) for kind in ("interface", "chart", "line_art"))
    assert all(is_toned(made(kind)) for kind in ("sepia", "cyanotype"))
    for pixels in (photo, damage.dark(photo), damage.CAMERA["tungsten"](photo)):
        assert not is_drawn(pixels)
        assert not is_toned(pixels)


def test_treatment_grows_with_sureness_and_is_bounded():
    shares = [share_of(sureness) for sureness in (0.0, 0.5, 1.0, 1.5, 4.0)]

    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[1] < 1
    assert shares[-1] == 1


@pytest.mark.parametrize(
    ("curve", "hurt", "amount"),
    [
        (Curve.GAMMA, lambda pixels: damage.dark(pixels, 2.5), 2.5),
        (Curve.LIGHT, lambda pixels: damage.lit(pixels, (2, 2, 2)), 2.0),
        (Curve.GAIN, lambda pixels: damage.overexposed(pixels, 1.7), 1.7),
        (Curve.LACK, lambda pixels: damage.lit(pixels, (0.4, 0.4, 0.4)), 2.5),
    ],
)
def test_comb_of_a_stretched_range_tells_by_how_much(curve, hurt, amount):
    photo = photograph("chelsea.png")
    near = amount if curve is Curve.LACK else None

    comb = comb_of(level_counts(hurt(photo)), curve, near)

    assert comb.is_clear
    assert comb.amount == pytest.approx(amount, rel=0.02)
    assert not comb_of(level_counts(photo), curve, near).is_clear


@pytest.mark.parametrize("name", ["coffee.png", "astronaut.png"])
@pytest.mark.parametrize("tone", [(1, 1, 1), (0.6, 0.8, 1)])
def test_channels_that_repeat_each_other_prove_no_more_than_one(name, tone):
    grey = photograph(name).mean(2, keepdims=True)
    counts = level_counts(damage.lit(damage.rounded(grey * np.array(tone)), (0.5, 0.5, 0.5)))

    together, alone = comb_of(counts, Curve.LACK, 2.0), comb_of(counts, Curve.LACK, 2.0, are_alike=True)

    assert together.height > 2 * alone.height


def test_coarse_jpeg_is_no_evidence_of_an_exposure():
    pixels = photograph("chelsea.png")

    seen = quality.outcome("", "", pixels, damage.as_jpeg(pixels, 25), is_sound=False)

    assert not set(seen.found) & {"isDark", "isOverexposed", "hasColorCast"}


@pytest.mark.parametrize(("quality_of_file", "is_coarse"), [(25, True), (70, True), (85, False), (95, False)])
def test_coarse_jpeg_is_told_by_its_own_steps_not_by_the_pictures(quality_of_file, is_coarse):
    once_coarse = damage.through_jpeg(photograph("chelsea.png"), 30)

    assert is_coarse_jpeg(damage.as_jpeg(once_coarse, quality_of_file)) is is_coarse


def test_channel_stretched_alone_leaves_no_comb_of_an_exposure():
    assert not comb_of(level_counts(damage.lit(photograph("chelsea.png"), (1, 1, 1.9))), Curve.LIGHT).is_clear
