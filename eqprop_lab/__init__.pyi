"""The public names and where each lives; `__init__.py` reads it too (see `lazy`)."""

from eqprop_lab.acceleration import (
    HAS_CUPY as HAS_CUPY,
    check_cupy_available as check_cupy_available,
    compile_model as compile_model,
)
from eqprop_lab.algorithms import (
    BioplausibleModel as BioplausibleModel,
    list_algorithms as list_algorithms,
    register_algorithm as register_algorithm,
)
from eqprop_lab.datasets import (
    DataUnavailable as DataUnavailable,
    Vocabulary as Vocabulary,
    build_dataset as build_dataset,
    get_lm_dataset as get_lm_dataset,
    load_cifar_10 as load_cifar_10,
    register_dataset as register_dataset,
)
from eqprop_lab.datasets.augmentation import Augmentation as Augmentation
from eqprop_lab.datasets.registry import get_dataset_info as get_dataset_info
from eqprop_lab.deploy.onnx import HAS_ONNX as HAS_ONNX, export_to_onnx as export_to_onnx
from eqprop_lab.deploy.quantise import quantize as quantize
from eqprop_lab.deploy.serve import make_app as make_app, serve as serve, serving as serving
from eqprop_lab.devices import get_optimal_backend as get_optimal_backend
from eqprop_lab.equilibrium.block import EquilibriumBlock as EquilibriumBlock
from eqprop_lab.equilibrium.gradients import estimate_gradients as estimate_gradients
from eqprop_lab.equilibrium.relaxation import (
    ConvergenceWarning as ConvergenceWarning,
    DivergenceError as DivergenceError,
    Equilibrium as Equilibrium,
    RoundingWarning as RoundingWarning,
    relax as relax,
)
from eqprop_lab.experiments.ablations import ablation_study as ablation_study
from eqprop_lab.experiments.combining import Ensemble as Ensemble, transfer as transfer
from eqprop_lab.experiments.compare_models import compare_models as compare_models
from eqprop_lab.experiments.config import (
    load_config as load_config,
    train_from_config as train_from_config,
)
from eqprop_lab.experiments.distillation import distilled as distilled
from eqprop_lab.experiments.presets import (
    create_model_preset as create_model_preset,
    get_model_config as get_model_config,
)
from eqprop_lab.experiments.sweeps import sweep as sweep
from eqprop_lab.experiments.trained import (
    list_trained as list_trained,
    load_trained as load_trained,
    save_trained as save_trained,
    trained_info as trained_info,
)
from eqprop_lab.instruments.alignment import alignment as alignment
from eqprop_lab.instruments.calibration import (
    calibration as calibration,
    fit_temperature as fit_temperature,
)
from eqprop_lab.instruments.gradient_check import (
    check_gradient as check_gradient,
    check_model as check_model,
)
from eqprop_lab.instruments.noise import Noisy as Noisy
from eqprop_lab.instruments.noise_law import NoiseLaw as NoiseLaw, noise_law as noise_law
from eqprop_lab.instruments.spectral_check import verify_spectral_norm as verify_spectral_norm
from eqprop_lab.instruments.speed import measure_speed as measure_speed
from eqprop_lab.instruments.validity import radius_of_validity as radius_of_validity
from eqprop_lab.kernel import EqPropKernel as EqPropKernel
from eqprop_lab.models import (
    AdaptiveFeedbackMLP as AdaptiveFeedbackMLP,
    BackpropCNN as BackpropCNN,
    BackpropMLP as BackpropMLP,
    ConvEqProp as ConvEqProp,
    DeepEqProp as DeepEqProp,
    EquilibriumAlignment as EquilibriumAlignment,
    EquilibriumChain as EquilibriumChain,
    EquilibriumModel as EquilibriumModel,
    FeedforwardConv as FeedforwardConv,
    FeedforwardMLP as FeedforwardMLP,
    LoopedMLP as LoopedMLP,
    PredictiveConv as PredictiveConv,
    PredictiveMLP as PredictiveMLP,
    TransformerEqProp as TransformerEqProp,
)
from eqprop_lab.models.language.attention_only import EqPropAttentionOnlyLM as EqPropAttentionOnlyLM
from eqprop_lab.models.language.budget import (
    create_eqprop_lm as create_eqprop_lm,
    within_budget as within_budget,
)
from eqprop_lab.models.language.full import FullEqPropLM as FullEqPropLM
from eqprop_lab.models.language.looped import (
    HybridEqPropLM as HybridEqPropLM,
    LoopedMLPForLM as LoopedMLPForLM,
)
from eqprop_lab.models.language.recurrent import RecurrentEqPropLM as RecurrentEqPropLM
from eqprop_lab.models.language.registry import (
    EQPROP_LM_REGISTRY as EQPROP_LM_REGISTRY,
    HAS_LM_VARIANTS as HAS_LM_VARIANTS,
    EqPropLM as EqPropLM,
    get_eqprop_lm as get_eqprop_lm,
    list_eqprop_lm_variants as list_eqprop_lm_variants,
    register_eqprop_lm as register_eqprop_lm,
)
from eqprop_lab.models.language.transformer import (
    BackpropTransformerLM as BackpropTransformerLM,
    BackpropWindowLM as BackpropWindowLM,
)
from eqprop_lab.models.lut_network import LUTNetwork as LUTNetwork
from eqprop_lab.models.registry import (
    ModelRegistry as ModelRegistry,
    model_registry as model_registry,
)
from eqprop_lab.models.vision import (
    DenseNet3 as DenseNet3,
    ResNetCifar as ResNetCifar,
    SmallCNN as SmallCNN,
)
from eqprop_lab.training import (
    EqPropTrainer as EqPropTrainer,
    StopTraining as StopTraining,
)
from eqprop_lab.utils import (
    compute_gradient_norm as compute_gradient_norm,
    count_parameters as count_parameters,
    estimate_memory_usage as estimate_memory_usage,
)
from eqprop_lab.version import __version__ as __version__

__all__: list[str]
