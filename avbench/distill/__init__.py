"""What distillation methods are built from: augmentation, factor, herding, matching."""
