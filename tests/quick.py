"""Has XLA compile in less time, to slower programs; else most of the tests' time goes there."""

XLA_FLAGS = (
    '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
    ' --xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE'
)

# `compiler_options` of the few programs that run for longer than that saves
OPTIMISED = {'xla_backend_optimization_level': 3, 'xla_llvm_disable_expensive_passes': False}
