# What can be asked for. How each file comes to be stands in workflow/rules/, what can be changed in config/.
#
#   snakemake                                        the main table, results/voc_val_miou.csv
#   snakemake results/voc_val_miou/voc_deit.csv      one row of it
#   snakemake results/released/voc_val_miou.csv      the same from the authors' checkpoints, without training
#   snakemake results/paper.csv                      every number of the paper
#   snakemake results/report.html                    the page: the tables of `report` (config/config.yaml)
#   snakemake --configfile config/demo.yaml          the drawn data set, in minutes
from snakemake.utils import min_version

min_version("9.20")


configfile: f"{workflow.basedir}/config/config.yaml"
configfile: f"{workflow.basedir}/config/recipes.yaml"
configfile: f"{workflow.basedir}/config/experiments.yaml"
configfile: f"{workflow.basedir}/config/paper.yaml"


container: config["container"]


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


rule main_table:
    default_target: True
    input:
        "<results>/voc_val_miou.csv",


include: "workflow/rules/data.smk"
include: "workflow/rules/saliency.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/study.smk"
include: "workflow/rules/report.smk"
