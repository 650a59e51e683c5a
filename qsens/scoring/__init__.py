"""Scores of pictures with their standard errors: FID and KID on features, PSNR and SSIM on pixels.

Output tensors of an engine come in and become uint8 RGB; values, standard errors and the influence of every
image go out. Feature extractors are here too. The main types are the metrics (`Fid`, `Kid`, `Psnr`, `Ssim`),
which keep to the contract `Metric` in `qsens.core.interfaces`.
"""
