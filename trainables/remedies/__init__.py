"""Remedies for disadvantaged groups: the table. To add one, write its file, then one member of `RemedyConfig` here.

===================  =========================================  ==================  ===================
kind                 what it changes                            looks at            for
===================  =========================================  ==================  ===================
class_weights        each class's weight in the loss            nothing, or labels  sgd; dpsgd if given
group_sampling       how often each group comes                 groups              sgd
group_reweighting    each group's weight in the loss            groups              sgd
group_dro            each group's weight, by its loss           groups, losses      sgd
===================  =========================================  ==================  ===================
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fairsweep.trainables.remedies.class_weights import ClassWeights
from fairsweep.trainables.remedies.group_dro import GroupDro
from fairsweep.trainables.remedies.group_reweighting import GroupReweighting
from fairsweep.trainables.remedies.group_sampling import GroupSampling

RemedyConfig = Annotated[ClassWeights | GroupSampling | GroupReweighting | GroupDro, Field(discriminator="kind")]
