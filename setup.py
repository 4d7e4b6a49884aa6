from setuptools import Extension, setup

# Attention on a CPU. Loaded with ctypes, since it needs nothing of Python; without a C compiler it is left out.
setup(
    ext_modules=[
        Extension(
            "stream_vl_ros.engine._few_queries",
            ["stream_vl_ros/engine/few_queries.c"],
            depends=["stream_vl_ros/engine/few_queries_kernel.h"],
            extra_compile_args=["-O3", "-fopenmp-simd"],
            libraries=["m"],
            optional=True,
        )
    ]
)
