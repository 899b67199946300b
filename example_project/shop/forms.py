from django import forms

from .models import Order, Product


class OrderForm(forms.ModelForm):
    product = forms.ModelChoiceField(Product.objects.order_by("pk"), empty_label=None)
    quantity = forms.IntegerField(min_value=1, max_value=5, initial=1)

    class Meta:
        model = Order
        fields = ["product", "quantity"]
