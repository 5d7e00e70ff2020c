"""Which metrics there are: names, units, what is better and what they need. Formulas are in the other modules."""

from dataclasses import dataclass

A, B, C = "A", "B", "C"  # no weights; a landmark detector; a network of its own


@dataclass(frozen=True)
class Metric:
    """One row of the result.

    Args:
        name: column name.
        title: for people.
        unit: "" if it has none.
        better: "high", "low", "zero" (nearer to 0) or "real" (nearer to the real clips' value).
        tier: A, B or C.
        is_main: whether it is in the main table. Metrics that don't tell real pairs from scrambled ones on real
            clips are not, nor are second forms of others.
    """

    name: str
    title: str
    unit: str
    better: str
    tier: str
    is_main: bool = True


METRICS = (
    Metric("sync", "sync (probe confidence)", "", "high", B),
    Metric("sync_lag", "lag, + = sound late", "frames", "zero", B),
    Metric("sync_score", "probe correlation at lag 0", "", "high", B, False),
    Metric("loudness_sync", "AV-corr", "", "high", B, False),
    Metric("loudness_lag", "AV-corr lag", "frames", "zero", B, False),
    Metric("silence_closure", "lips open in silence / in speech", "", "low", B, False),
    Metric("bilabial_closure", "lips closed on p b m", "", "high", B, False),
    Metric("bilabial_chance", "lips closed by chance", "", "real", B, False),
    Metric("m_lmd", "M-LMD", "px at 256", "low", B),
    Metric("f_lmd", "F-LMD", "px at 256", "low", B),
    Metric("m_lmd_relative", "M-LMD", "% of eye distance", "low", B, False),
    Metric("f_lmd_relative", "F-LMD", "% of eye distance", "low", B, False),
    Metric("lvd", "LVD", "px at 256 per frame", "low", B, False),
    Metric("mld", "MLD", "% of eye distance", "low", B),
    Metric("ssim_e", "SSIM_e", "", "high", B),
    Metric("corr_e", "correlation of brows and eyes", "", "high", B, False),
    Metric("var_e", "Var_e x 1e4", "eye distances^2", "real", B),
    Metric("var_e_ratio", "|ln Var_e / real|", "", "low", B, False),
    Metric("ssim_p", "SSIM_p", "", "high", B),
    Metric("corr_p", "correlation of poses", "", "high", B, False),
    Metric("var_p", "Var_p x 1e3", "rad^2", "real", B),
    Metric("var_p_ratio", "|ln Var_p / real|", "", "low", B, False),
    Metric("diversity", "head diversity (div_pose)", "degrees", "real", B),
    Metric("beat_align", "Beat Align", "", "high", B, False),
    Metric("beat_align_gain", "Beat Align over other speech", "", "high", B, False),
    Metric("beat_align_motion", "Beat Align over motion beats", "", "high", B, False),
    Metric("beat_align_track", "Beat Align of tracked beats", "", "high", B, False),
    Metric("jitter", "jitter", "degrees / frame^3", "real", B),
    Metric("fast_share", "motion above 5 Hz", "", "real", B, False),
    Metric("blink_rate", "blinks", "per minute", "real", B),
    Metric("blink_length", "blink length", "s", "real", B, False),
    Metric("blink_depth", "blink depth", "", "real", B, False),
    Metric("gaze_error", "gaze error", "degrees", "low", B),
    Metric("seam_ratio", "chunk seams", "", "low", B, False),
    Metric("face_found", "frames with a face", "", "high", B, False),
    Metric("psnr", "PSNR", "dB", "high", A),
    Metric("ssim", "SSIM of luma", "", "high", A),
    Metric("cpbd", "CPBD", "", "real", A),
    Metric("flicker", "background flicker", "levels of 255", "real", A, False),
    Metric("warp_error", "E_warp of the face", "levels of 255", "real", A, False),
    Metric("lse_c", "LSE-C", "", "real", C),
    Metric("lse_d", "LSE-D", "", "real", C),
    Metric("av_offset", "SyncNet offset, + = sound leads", "frames", "zero", C),
    Metric("csim", "CSIM", "", "high", C),
    Metric("lpips", "LPIPS", "", "low", C),
    Metric("t_lpips", "t-LPIPS", "", "low", C, False),
)
# Of a whole run, not of a clip.
RUN_METRICS = (
    Metric("fid", "FID", "", "low", C),
    Metric("kid", "KID x 1000", "", "low", C),
    Metric("emo_acc", "Emo_Acc", "", "high", C),
)
