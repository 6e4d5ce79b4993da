from .backbone_specs import BACKBONES as BACKBONES
from .experiment import Experiment as Experiment
from .experiment_file import load_experiment as load_experiment
from .experiment_file import write_experiment as write_experiment
from .recipe import Recipe as Recipe
from .recipe import load_recipe as load_recipe
