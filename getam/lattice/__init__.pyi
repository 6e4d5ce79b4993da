from .bilateral import bilateral_filter as bilateral_filter
from .crf import dense_crf as dense_crf
from .crf import dense_crf_batch as dense_crf_batch
from .mean_field import MeanField as MeanField
from .settings import CrfSettings as CrfSettings
