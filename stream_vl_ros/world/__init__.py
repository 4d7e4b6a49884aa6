"""The toy world of stream-vl-tiny: scenes, their ground truth, their pictures and questions.

The same code feeds the trainer, the accuracy bench and the demo recording, so that what is
measured is what was trained. Scenes and questions are plain Python; pictures are torch and run on
the CPU and on a GPU.
"""
