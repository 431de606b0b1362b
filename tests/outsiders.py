"""Models of other people, as small as their configurations allow: random weights, nothing is fetched."""

from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import convnext, efficientnet, mobilenetv3, regnet, resnet, segmentation

CLASSES = 3
Make = Callable[[ModuleType], nn.Module]  # the library -> a model
Inputs = Callable[[], Mapping[str, Tensor]]  # the arguments of its forward pass


def images(size: int, name: str = "x", channels: int = 3) -> Inputs:
    """A batch of two."""
    return lambda: {name: torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))}


def words(*names: str) -> Inputs:
    """Numbers of words, under each of the names."""
    ids = torch.randint(3, 40, (2, 8), generator=torch.Generator().manual_seed(1))
    return lambda: dict.fromkeys(names or ["input_ids"], ids)


# --- torchvision ------------------------------------------------------------------------------------------------------


def _mobilenet_v3(lib: ModuleType) -> nn.Module:
    blocks = [
        mobilenetv3.InvertedResidualConfig(8, 3, 16, 8, True, "RE", 1, 1, 1.0),
        mobilenetv3.InvertedResidualConfig(8, 5, 16, 16, True, "HS", 2, 1, 1.0),
    ]
    return lib.MobileNetV3(blocks, last_channel=16, num_classes=CLASSES, dropout=0.0)


def _efficientnet(lib: ModuleType) -> nn.Module:
    blocks = [
        efficientnet.MBConvConfig(1, 3, 1, 8, 8, 1, 1, 1),
        efficientnet.FusedMBConvConfig(2, 3, 2, 8, 16, 1),
        efficientnet.MBConvConfig(2, 5, 2, 16, 16, 2, 1, 1),
    ]
    return lib.EfficientNet(blocks, dropout=0.0, stochastic_depth_prob=0.0, num_classes=CLASSES, last_channel=32)


def _regnet(lib: ModuleType) -> nn.Module:
    stages = {"depths": [1, 1], "widths": [8, 16], "group_widths": [4, 8], "bottleneck_multipliers": [1.0, 1.0]}
    return lib.RegNet(regnet.BlockParams(**stages, strides=[2, 2], se_ratio=0.25), num_classes=CLASSES, stem_width=8)


def _convnext(lib: ModuleType) -> nn.Module:
    return lib.ConvNeXt(
        [convnext.CNBlockConfig(8, 16, 1), convnext.CNBlockConfig(16, None, 1)], num_classes=CLASSES, layer_scale=1.0
    )


def _maxvit(lib: ModuleType) -> nn.Module:
    sizes = {"stem_channels": 8, "partition_size": 2, "block_channels": [8, 16], "block_layers": [1, 1], "head_dim": 4}
    return lib.MaxVit((16, 16), **sizes, stochastic_depth_prob=0.0, num_classes=CLASSES)


def _swin(lib: ModuleType, *, version: str) -> nn.Module:
    swin = lib.swin_transformer
    return lib.SwinTransformer(
        [2, 2],
        8,
        [2, 2],
        [2, 2],
        [2, 2],
        stochastic_depth_prob=0.0,
        num_classes=CLASSES,
        block=getattr(swin, f"SwinTransformerBlock{version}"),
        downsample_layer=getattr(swin, f"PatchMerging{version}"),
    )


def _resnet(lib: ModuleType, *, block: type = resnet.BasicBlock, **more: int) -> nn.Module:
    """The widths of torchvision's are fixed, so its two widest stages are cut off."""
    net = lib.ResNet(block, [1, 1, 1, 1], num_classes=CLASSES, **more)
    net.layer3, net.layer4, net.fc = nn.Identity(), nn.Identity(), nn.Linear(128 * block.expansion, CLASSES)
    return net


def _fcn(lib: ModuleType) -> nn.Module:
    backbone = lib._utils.IntermediateLayerGetter(_resnet(lib), {"layer1": "out"})
    return segmentation.FCN(backbone, segmentation.fcn.FCNHead(64, CLASSES))


TORCHVISION: dict[str, tuple[Make, Inputs]] = {
    "resnet": (_resnet, images(32)),
    "resnext": (partial(_resnet, block=resnet.Bottleneck, groups=4, width_per_group=8), images(32)),
    "densenet": (lambda lib: lib.DenseNet(4, (2, 2), 8, bn_size=2, num_classes=CLASSES), images(32)),
    "squeezenet": (lambda lib: lib.SqueezeNet("1_1", CLASSES, dropout=0.0), images(32)),
    "shufflenet": (lambda lib: lib.ShuffleNetV2([1, 1, 1], [8, 8, 16, 32, 32], CLASSES), images(32)),
    "mobilenet-v2": (
        lambda lib: lib.MobileNetV2(CLASSES, 0.25, inverted_residual_setting=[[1, 32, 1, 1], [6, 32, 2, 2]]),
        images(16),
    ),
    "mobilenet-v3": (_mobilenet_v3, images(16)),
    "efficientnet": (_efficientnet, images(16)),
    "regnet": (_regnet, images(16)),
    "convnext": (_convnext, images(16)),
    "vit": (lambda lib: lib.VisionTransformer(8, 4, 2, 2, 8, 16, num_classes=CLASSES), images(8)),
    "swin": (partial(_swin, version=""), images(16)),
    "swin-v2": (partial(_swin, version="V2"), images(16)),
    "maxvit": (_maxvit, images(16)),
    "fcn": (_fcn, images(16)),
}

# --- timm -------------------------------------------------------------------------------------------------------------

SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "num_classes": CLASSES}


def _timm(kind: str, **settings: Any) -> Make:
    return lambda lib: getattr(lib.models, kind)(**settings)


TIMM: dict[str, tuple[Make, Inputs]] = {
    "vit": (_timm("VisionTransformer", **SMALL, depth=2, num_heads=2), images(16)),
    "beit": (_timm("Beit", **SMALL, depth=2, num_heads=2, init_values=0.1), images(16)),
    "eva": (_timm("Eva", **SMALL, depth=2, num_heads=2), images(16)),
    "cait": (_timm("Cait", **SMALL, depth=2, num_heads=2), images(16)),
    "xcit": (
        _timm("Xcit", img_size=16, patch_size=8, embed_dim=16, num_classes=CLASSES, depth=2, num_heads=2),
        images(16),
    ),
    "mixer": (
        _timm("MlpMixer", num_classes=CLASSES, img_size=16, patch_size=4, num_blocks=2, embed_dim=16),
        images(16),
    ),
    "swin": (
        _timm("SwinTransformer", **{**SMALL, "embed_dim": 8}, depths=(2, 2), num_heads=(2, 2), window_size=2),
        images(16),
    ),
    "swin-v2": (
        _timm("SwinTransformerV2", **{**SMALL, "embed_dim": 8}, depths=(2, 2), num_heads=(2, 2), window_size=2),
        images(16),
    ),
    "convnext": (_timm("ConvNeXt", num_classes=CLASSES, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)), images(32)),
    "volo": (
        _timm(
            "VOLO",
            layers=[1, 1],
            img_size=32,
            num_classes=CLASSES,
            embed_dims=[16, 16],
            num_heads=[2, 2],
            mlp_ratio=2.0,
            outlook_attention=(True, False),
            use_mix_token=False,
        ),
        images(32),
    ),
}

# --- transformers -----------------------------------------------------------------------------------------------------

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 50,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
PICTURES = {"image_size": 16, "patch_size": 4, "num_labels": CLASSES}


def _hugging(config: str, model: str, **settings: Any) -> Make:
    return lambda lib: getattr(lib, model)(getattr(lib, config)(**settings))


TRANSFORMERS: dict[str, tuple[Make, Inputs]] = {
    "bert": (_hugging("BertConfig", "BertForSequenceClassification", **TINY, num_labels=CLASSES), words()),
    "bert-lm": (_hugging("BertConfig", "BertForMaskedLM", **TINY), words()),
    "roberta": (_hugging("RobertaConfig", "RobertaForTokenClassification", **TINY, num_labels=CLASSES), words()),
    "albert": (_hugging("AlbertConfig", "AlbertForSequenceClassification", **TINY, embedding_size=8), words()),
    "electra": (_hugging("ElectraConfig", "ElectraModel", **TINY, embedding_size=8), words()),
    "distilbert": (
        _hugging(
            "DistilBertConfig",
            "DistilBertForSequenceClassification",
            dim=16,
            n_layers=2,
            n_heads=2,
            hidden_dim=24,
            vocab_size=50,
            max_position_embeddings=32,
        ),
        words(),
    ),
    "deberta": (
        _hugging(
            "DebertaV2Config",
            "DebertaV2ForSequenceClassification",
            **TINY,
            relative_attention=True,
            pos_att_type="p2c|c2p",
        ),
        words(),
    ),
    "fnet": (
        _hugging("FNetConfig", "FNetModel", **{k: v for k, v in TINY.items() if k != "num_attention_heads"}),
        words(),
    ),
    "llama": (_hugging("LlamaConfig", "LlamaForCausalLM", **TINY), words()),
    "mistral": (_hugging("MistralConfig", "MistralForCausalLM", **TINY, num_key_value_heads=1), words()),
    "qwen": (_hugging("Qwen2Config", "Qwen2ForCausalLM", **TINY, num_key_value_heads=1), words()),
    "gemma": (_hugging("GemmaConfig", "GemmaForCausalLM", **TINY, num_key_value_heads=1, head_dim=8), words()),
    "phi": (_hugging("PhiConfig", "PhiForCausalLM", **TINY), words()),
    "neox": (_hugging("GPTNeoXConfig", "GPTNeoXForCausalLM", **TINY), words()),
    "opt": (
        _hugging(
            "OPTConfig",
            "OPTForCausalLM",
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            ffn_dim=24,
            vocab_size=50,
            max_position_embeddings=32,
            word_embed_proj_dim=16,
        ),
        words(),
    ),
    "bloom": (_hugging("BloomConfig", "BloomForCausalLM", hidden_size=16, n_layer=2, n_head=2, vocab_size=50), words()),
    "mamba": (
        _hugging("MambaConfig", "MambaForCausalLM", hidden_size=16, num_hidden_layers=2, state_size=4, vocab_size=50),
        words(),
    ),
    "mixtral": (
        _hugging("MixtralConfig", "MixtralForCausalLM", **TINY, num_key_value_heads=1, num_local_experts=2),
        words(),
    ),
    "t5": (
        _hugging(
            "T5Config",
            "T5ForConditionalGeneration",
            d_model=16,
            d_kv=8,
            d_ff=24,
            num_layers=1,
            num_heads=2,
            vocab_size=50,
        ),
        words("input_ids", "decoder_input_ids"),
    ),
    "bart": (
        _hugging(
            "BartConfig",
            "BartModel",
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=24,
            decoder_ffn_dim=24,
            vocab_size=50,
            max_position_embeddings=32,
        ),
        words(),
    ),
    "vit": (
        _hugging(
            "ViTConfig",
            "ViTForImageClassification",
            **{k: v for k, v in TINY.items() if k not in ("vocab_size", "max_position_embeddings", "pad_token_id")},
            **PICTURES,
        ),
        images(16, "pixel_values"),
    ),
    "swin": (
        _hugging(
            "SwinConfig",
            "SwinForImageClassification",
            **PICTURES,
            embed_dim=8,
            depths=[1, 1],
            num_heads=[2, 2],
            window_size=2,
        ),
        images(16, "pixel_values"),
    ),
    "convnext": (
        _hugging(
            "ConvNextConfig",
            "ConvNextForImageClassification",
            hidden_sizes=[8, 16, 16, 16],
            depths=[1, 1, 1, 1],
            num_labels=CLASSES,
        ),
        images(32, "pixel_values"),
    ),
    "resnet": (
        _hugging(
            "ResNetConfig",
            "ResNetForImageClassification",
            embedding_size=8,
            hidden_sizes=[8, 16],
            depths=[1, 1],
            num_labels=CLASSES,
        ),
        images(16, "pixel_values"),
    ),
    "segformer": (
        _hugging(
            "SegformerConfig",
            "SegformerForSemanticSegmentation",
            num_encoder_blocks=2,
            depths=[1, 1],
            sr_ratios=[2, 1],
            hidden_sizes=[8, 16],
            patch_sizes=[7, 3],
            strides=[4, 2],
            num_attention_heads=[1, 2],
            mlp_ratios=[2, 2],
            decoder_hidden_size=16,
            num_labels=CLASSES,
        ),
        images(32, "pixel_values"),
    ),
}

OUTSIDERS = {"torchvision": TORCHVISION, "timm": TIMM, "transformers": TRANSFORMERS}
