from .metrics import ConfusionMatrix as ConfusionMatrix
from .prediction import predict_probabilities as predict_probabilities
from .run import Run as Run
from .scores import Score as Score
from .scores import score_masks as score_masks
from .submission import write_submission as write_submission
