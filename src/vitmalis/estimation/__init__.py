"""Estimates of payload size, latency and accuracy of an offload before it is made (paper, section IV-D)."""

from vitmalis.estimation.configuration_table import ConfigurationTable
from vitmalis.estimation.correction import SizeCorrection
from vitmalis.estimation.decay import F1ByAge
from vitmalis.estimation.estimator_files import load_estimator, save_estimator
from vitmalis.estimation.estimators import (
    AnyEstimator,
    Estimator,
    LinearEstimator,
    MlpEstimator,
    OfflineMeanEstimator,
)
from vitmalis.estimation.features import (
    ACCURACY_FEATURES,
    SIZE_FEATURES,
    CandidateFeatures,
    Candidates,
    candidate_features,
    configuration_space,
)
from vitmalis.estimation.latency import (
    EncodeTable,
    InferenceFit,
    LatencyTables,
    LatencyTablesMissing,
    e2e_latency_s,
    load_latency_tables,
    save_latency_tables,
)
from vitmalis.estimation.shipped import EstimatorPair, load_pair
from vitmalis.estimation.stage_times import StageTimes, WholeFrame

__all__ = [
    "ACCURACY_FEATURES",
    "SIZE_FEATURES",
    "AnyEstimator",
    "CandidateFeatures",
    "Candidates",
    "ConfigurationTable",
    "EncodeTable",
    "Estimator",
    "EstimatorPair",
    "F1ByAge",
    "InferenceFit",
    "LatencyTables",
    "LatencyTablesMissing",
    "LinearEstimator",
    "MlpEstimator",
    "OfflineMeanEstimator",
    "SizeCorrection",
    "StageTimes",
    "WholeFrame",
    "candidate_features",
    "configuration_space",
    "e2e_latency_s",
    "load_estimator",
    "load_latency_tables",
    "load_pair",
    "save_estimator",
    "save_latency_tables",
]
