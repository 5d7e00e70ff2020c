"""The metrics: pure functions of arrays, one module per family.

    image       PSNR, SSIM, CPBD, flicker, warp error
    landmarks   F-LMD, M-LMD, LVD, MLD
    motion      Beat Align, SSIM and variance over time, blinks, jitter, diversity, chunk seams
    gaze        angle between directions
    sync        mouth signals, the linear probe, lag, closure in silence and on bilabials

Undefined is NaN, never 0. T frames, 25 per second; landmarks are the 68 of iBUG. Nothing here reads files.
"""
