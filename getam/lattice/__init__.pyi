from .bilateral import bilateral_filter as bilateral_filter
from .crf import dense_crf as dense_crf
from .crf import dense_crf_batch as dense_crf_batch
from .settings import CrfSettings as CrfSettings
