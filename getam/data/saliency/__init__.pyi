from .maps import SaliencySettings as SaliencySettings
from .maps import make_saliency as make_saliency
