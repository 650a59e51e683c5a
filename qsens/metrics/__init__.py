"""Scores: Fréchet statistics, feature extractors, FID, KID, PSNR and SSIM."""
