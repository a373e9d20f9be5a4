"""How far a prediction is from the truth: pictures (PSNR, SSIM, LPIPS, CLIP, FID) and surfaces."""
