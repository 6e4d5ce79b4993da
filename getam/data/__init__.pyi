from .dataset import DataSet as DataSet
from .dataset import Split as Split
from .dataset import open_dataset as open_dataset
from .images import read_image as read_image
from .images import read_mask as read_mask
from .images import write_mask as write_mask
from .loading import InferenceImages as InferenceImages
from .loading import TrainingImages as TrainingImages
