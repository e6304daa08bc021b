"""Top-1 accuracy of a PyTorch model: see «python scripts/evaluate_pytorch.py --help»."""

from resnet8.cli.scripts import evaluate_pytorch, main

if __name__ == "__main__":
    main(evaluate_pytorch)
