"""For pytest: -p tests.helpers.pretended_cuda.plugin runs the tests of CUDA on the pretended GPU."""

from tests.helpers.pretended_cuda import begin

begin()
