from .crf import dense_crf as dense_crf
from .kernels import Kernel as Kernel
