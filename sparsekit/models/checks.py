"""Checks of what every model needs of its inputs and settings."""


def check_classes(num_classes: int) -> None:
    """Raise unless there is something to tell apart.

    Raises:
        ValueError: if there are fewer than two classes.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}. Give Dataset.num_classes")


def check_positive(**sizes: int) -> None:
    """Raise unless every size is at least 1, and name the first that is not.

    Raises:
        ValueError: if one is below 1.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}. Raise it, or leave it out for the default")


def check_image(input_shape: tuple[int, ...], least_side: int) -> None:
    """Raise unless inputs are images of a sufficient size.

    Args:
        input_shape: what the user gave.
        least_side: smallest height and width, in pixels, that leaves something after all strides.

    Raises:
        ValueError: if the shape is not `(channels, height, width)` or a side is too small.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(
            f"input_shape must be (channels, height, width), got {tuple(input_shape)}. "
            'Load images, for example load("digits", flat=False), or take the model "mlp"'
        )
    if min(input_shape[1:]) < least_side:
        raise ValueError(
            f"height and width must be at least {least_side} pixels, got {tuple(input_shape)}. "
            'Enlarge the images or take the model "mlp"'
        )
