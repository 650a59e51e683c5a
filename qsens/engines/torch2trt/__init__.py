"""torch2trt."""
