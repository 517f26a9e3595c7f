"""What scikit-learn's tools ask of an estimator, without scikit-learn."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from tidegate.errors import unknown_choice

_Self = TypeVar("_Self", bound="Parameters")
_Classifier = TypeVar("_Classifier", bound="ClassifierContract")


class Parameters:
    """An estimator's arguments, which its ``__init__`` only stores."""

    @classmethod
    def _parameters(cls) -> Mapping[str, inspect.Parameter]:
        signature = inspect.signature(cls.__init__)
        return {name: given for name, given in signature.parameters.items() if name != "self"}

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return list(cls._parameters())

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments and their values."""
        return {name: getattr(self, name) for name in self._parameters()}

    def set_params(self: _Self, /, **params: Any) -> _Self:
        """Set constructor arguments by name. ConfigError for an unknown one."""
        names = self._parameter_names()
        for name, value in params.items():
            if name not in names:
                raise unknown_choice("parameter", name, names)
            setattr(self, name, value)
        return self

    def _changed_params(self) -> dict[str, Any]:
        """The arguments that are not the defaults."""
        defaults = self._parameters()
        return {
            name: value
            for name, value in self.get_params().items()
            if repr(value) != repr(defaults[name].default)  # an array's != would be an array
        }

    def __repr__(self) -> str:
        changed = ", ".join(f"{name}={value!r}" for name, value in self._changed_params().items())
        return f"{type(self).__name__}({changed})"


class ClassifierContract(Parameters):
    """A classifier of texts, of one label each or several, whose ``fit`` takes sample_weight."""

    _estimator_type = "classifier"  # for tools from before scikit-learn's tags

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks: a classifier of one label or several, whose input is texts."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type=self._estimator_type,
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(multi_label=True),
            input_tags=InputTags(string=True, two_d_array=False),
        )

    def get_metadata_routing(self) -> Any:
        """What scikit-learn asks: whether its tools are to pass sample_weight on to ``fit``."""
        if not hasattr(self, "_metadata_request"):
            return self._request(None)
        return self._metadata_request

    def set_fit_request(
        self: _Classifier, *, sample_weight: bool | str | None = None
    ) -> _Classifier:
        """Have scikit-learn's tools pass sample_weight on to ``fit``, where routing is enabled.

        True or False; None, to have an error if there is one; or the name under which it comes.
        """
        self._metadata_request = self._request(sample_weight)  # by this name, clone copies it
        return self

    def _request(self, sample_weight: bool | str | None) -> Any:
        from sklearn.utils.metadata_routing import MetadataRequest

        request = MetadataRequest(owner=type(self).__name__)
        request.fit.add_request(param="sample_weight", alias=sample_weight)
        return request
