"""Data: pictures in and out, sources, batches, degradations, masks. Floor 1: knows no particular paper.

    images, photos       files and scikit-image's photographs as arrays; saving, cropping, resizing
    sources              `open_source(spec)`: builtin, tfds, folder, npz, idx
    pipeline             `Pipeline`: batch i as a pure function of (seed, i)
    restoration          `RestorationSet`: pictures to denoise, upscale, inpaint …
    degradations, masks  noise, JPEG, downscaling; text, pixels, holes, strokes

Importing this package imports NumPy and Pillow; scikit-learn, tfds, Grain and JAX come when first used.
"""
