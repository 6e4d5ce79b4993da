# The targets. workflow/rules/ has the rules of each stage, config/ the settings that can be changed.
#
#   snakemake                                        the main table, results/voc_val_miou.csv
#   snakemake results/voc_val_miou/voc_deit.csv      one row of it
#   snakemake results/released/voc_val_miou.csv      the same from the authors' checkpoints, without training
#   snakemake results/paper.csv                      every number of the paper
#   snakemake results/report.html                    the page: the tables of `report` (config/config.yaml)
#   snakemake resources/archives.txt                 the downloads of these tables, and nothing else
#   snakemake --configfile config/demo.yaml          the drawn data set, in minutes
from snakemake.common.configfile import load_configfile
from snakemake.utils import min_version, update_config

min_version("9.20")


# Not workflow.basedir: that is the user's own workflow where this one is used as a module.
HERE = workflow.current_basedir


include: "workflow/helpers/own.smk"


configfile: own("config/config.yaml")
configfile: own("config/recipes.yaml")
configfile: own("config/experiments.yaml")
configfile: own("config/paper.yaml")


# Snakemake skips these files where a module is given a `config:`, which then names only the settings that differ.
defaults = {}
for name in ("config", "recipes", "experiments", "paper"):
    update_config(defaults, load_configfile(own(f"config/{name}.yaml")))
update_config(defaults, config)
config.update(defaults)


container: config["container"]


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


onstart:
    preflight()


rule main_table:
    default_target: True
    input:
        "<results>/voc_val_miou.csv",


include: "workflow/rules/data.smk"
include: "workflow/rules/saliency.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/report.smk"
